"""Organizations (tenants), their people and the keys that programs use."""
