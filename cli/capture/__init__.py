"""The developer's side of capture: hook script, spool, redaction and what is sent.  It reads no environment but its own."""
