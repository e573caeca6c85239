// The only script of the plain pages: what passkeys need. A form says with data-passkey which ceremony it is:
//   sign-in   asks for a signature, which opens a session
//   register  makes a new passkey; its field "name" names it
//   decide    signs a decision: data-challenge and data-rp say what and where; the field "assertion" takes the signature
"use strict";

const encode = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const decode = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));

async function post(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    credentials: "same-origin",
  });
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.detail || value.message || "this did not work");
  return value;
}

async function signature(challenge, rpId) {
  const c = await navigator.credentials.get({
    publicKey: { challenge: decode(challenge), rpId, userVerification: "required", timeout: 110000 },
  });
  return {
    id: encode(c.rawId),
    challenge,
    client_data: encode(c.response.clientDataJSON),
    authenticator_data: encode(c.response.authenticatorData),
    signature: encode(c.response.signature),
  };
}

async function signIn() {
  const o = await post("/sign-in/passkey/challenge", {});
  const { to } = await post("/sign-in/passkey", await signature(o.challenge, o.rp_id));
  location.assign(to);
}

async function register(form) {
  const o = await post("/v1/sign-in/passkeys/challenge", {});
  const c = await navigator.credentials.create({
    publicKey: {
      challenge: decode(o.challenge),
      rp: { id: o.rp_id, name: "aios" },
      user: { id: decode(o.user), name: o.name, displayName: o.name },
      pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: "public-key", alg })),
      excludeCredentials: o.exclude.map((id) => ({ type: "public-key", id: decode(id) })),
      authenticatorSelection: { residentKey: "required", requireResidentKey: true, userVerification: "required" },
      attestation: "none",
      timeout: 110000,
    },
  });
  await post("/v1/sign-in/passkeys", {
    name: form.elements.namedItem("name").value,
    challenge: o.challenge,
    client_data: encode(c.response.clientDataJSON),
    authenticator_data: encode(c.response.getAuthenticatorData()),
  });
  location.assign("/security");
}

async function decide(form, button) {
  const signed = await signature(form.dataset.challenge, form.dataset.rp);
  form.elements.namedItem("assertion").value = JSON.stringify(signed);
  const answer = document.createElement("input");
  answer.type = "hidden";
  answer.name = button.name;
  answer.value = button.value;
  form.append(answer);
  form.submit();
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", async (event) => {
    const button = event.submitter;
    if (form.dataset.passkey === "decide" && !(button && "sign" in button.dataset)) return;
    event.preventDefault();
    const says = form.querySelector("[role=status]");
    says.textContent = "";
    try {
      if (!window.PublicKeyCredential) throw new Error("this browser has no passkeys here");
      if (form.dataset.passkey === "sign-in") await signIn();
      else if (form.dataset.passkey === "register") await register(form);
      else await decide(form, button);
    } catch (e) {
      says.textContent = e.name === "NotAllowedError" ? "Nothing was signed." : e.message;
    }
  });
}
