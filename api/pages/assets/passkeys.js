// Talks to authenticators; everything else on these pages works without it.
"use strict";

const csrf = document.querySelector('meta[name="csrf-token"]').content;

function bytes(text) {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (character) => character.charCodeAt(0));
}

function text(buffer) {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const told = answer.headers.get("content-type") || "";
  const value = told.includes("json") ? await answer.json() : {};
  if (!answer.ok) throw new Error(value.message || "That did not work; try again.");
  return { ...value, position: answer.headers.get("crewkit-position") };
}

function asked(options) {
  const known = (list) => (list || []).map((one) => ({ ...one, id: bytes(one.id) }));
  const made = { ...options, challenge: bytes(options.challenge) };
  if (options.user) made.user = { ...options.user, id: bytes(options.user.id) };
  if (options.allowCredentials) made.allowCredentials = known(options.allowCredentials);
  if (options.excludeCredentials) made.excludeCredentials = known(options.excludeCredentials);
  return { publicKey: made };
}

function told(credential) {
  const from = credential.response;
  const response = { clientDataJSON: text(from.clientDataJSON) };
  for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"])
    if (from[name]) response[name] = text(from[name]);
  if (from.getTransports) response.transports = from.getTransports();
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response };
}

async function logIn(next) {
  const challenge = await post("/api/v1/auth/passkey/login/challenge", {});
  const credential = await navigator.credentials.get(asked(challenge.options));
  await post("/login/passkey", { challenge_id: challenge.challenge_id, credential: told(credential) });
  location.assign(next);
}

async function add(name) {
  const challenge = await post("/api/v1/auth/passkey/register/challenge", {});
  const credential = await navigator.credentials.create(asked(challenge.options));
  const body = { challenge_id: challenge.challenge_id, credential: told(credential), name: name || null };
  const added = await post("/api/v1/auth/passkey/register", body);
  location.assign("/passkeys?after=" + added.position);
}

function attempt(work) {
  const place = document.getElementById("passkey-error");
  place.hidden = true;
  work().catch((error) => {
    place.textContent = error.name === "NotAllowedError" ? "Nothing was chosen, or it took too long." : error.message;
    place.hidden = false;
  });
}

if (window.PublicKeyCredential) {
  const login = document.getElementById("passkey-login");
  if (login) {
    document.getElementById("passkey").hidden = false;
    login.addEventListener("click", () => attempt(() => logIn(login.dataset.next)));
  }
  const form = document.getElementById("passkey-add");
  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      attempt(() => add(form.elements.name.value));
    });
  }
}
