// Asks the browser for a passkey, and sends its answer with the form around the element that says what is asked for:
//   data-passkey: "get" to log in, "create" for a new one; data-options: the question, in JSON.
// Without this script, or in a browser that knows no passkeys, the element stays hidden.
(() => {
  "use strict";
  const box = document.querySelector("[data-passkey]");
  if (!box || !window.PublicKeyCredential || !navigator.credentials) return;
  const form = box.closest("form");
  const button = box.querySelector("button");
  const said = box.querySelector("[role=alert]");
  const isNew = box.dataset.passkey === "create";
  // A question is good for five minutes.
  const OLD = 270000;
  const since = Date.now();

  const bytes = (text) =>
    Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(Array.from(new Uint8Array(buffer), (b) => String.fromCharCode(b)).join(""))
      .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

  const question = () => {
    const options = JSON.parse(box.dataset.options);
    options.challenge = bytes(options.challenge);
    if (options.user) options.user.id = bytes(options.user.id);
    for (const list of [options.excludeCredentials, options.allowCredentials]) {
      for (const known of list || []) known.id = bytes(known.id);
    }
    return { publicKey: options };
  };

  const written = (answer) => {
    const response = { clientDataJSON: text(answer.response.clientDataJSON) };
    for (const part of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (answer.response[part]) response[part] = text(answer.response[part]);
    }
    return JSON.stringify({ id: answer.id, rawId: text(answer.rawId), type: answer.type, response, extensions: {} });
  };

  const say = (message) => {
    said.textContent = message;
    said.hidden = !message;
  };

  const ask = async () => {
    say("");
    if (isNew && !form.reportValidity()) return;
    if (Date.now() - since > OLD) {
      location.replace(location.href);
      return;
    }
    button.disabled = true;
    try {
      const answer = await (isNew ? navigator.credentials.create(question()) : navigator.credentials.get(question()));
      const stored = answer.getClientExtensionResults().credProps;
      if (isNew && stored && stored.rk === false) throw new Error("not kept");
      form.elements.passkey.value = written(answer);
      if (form.elements.password) form.elements.password.value = "";
      form.submit();
    } catch (error) {
      if (error.name === "InvalidStateError") say("There is a passkey of yours on this device already.");
      else if (error.name === "NotAllowedError") say("No passkey was chosen, or it took too long. Try again.");
      else if (error.message === "not kept") say("This device cannot keep a passkey that is found without a user name. Take another one.");
      else say("Passkeys do not work in this browser or on this device.");
      button.disabled = false;
    }
  };

  button.addEventListener("click", ask);
  // Back from the page that followed: what was answered is spent.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
  box.hidden = false;
})();
