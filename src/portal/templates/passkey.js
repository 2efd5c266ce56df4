// Asks the browser for a passkey, and sends its answer with the form around the element that says what is asked for:
//   data-passkey: "get" to log in, "create" for a new one; data-options: the question, in JSON;
//   data-renew: where a newer question is; data-gone and data-rp: a passkey that was removed, and the domain that it was for.
// To log in, the browser offers passkeys in the field of the user name too, where it can (WebAuthn level 3, conditional
// mediation). Without this script, or in a browser that knows no passkeys, the element stays hidden.
(() => {
  "use strict";
  if (!window.PublicKeyCredential || !navigator.credentials) return;
  // Signal methods of WebAuthn level 3: what was removed is offered no more.
  const gone = document.querySelector("[data-gone]");
  if (gone && PublicKeyCredential.signalUnknownCredential) {
    const removed = { rpId: gone.dataset.rp, credentialId: gone.dataset.gone };
    PublicKeyCredential.signalUnknownCredential(removed).catch(() => {});
  }
  const box = document.querySelector("[data-passkey]");
  if (!box) return;
  const form = box.closest("form");
  const button = box.querySelector("button");
  const said = box.querySelector("[role=alert]");
  const isNew = box.dataset.passkey === "create";
  // A question is good for five minutes, a form for an hour.
  const OLD = 270000;
  const LAST = 3300000;
  const opened = Date.now();
  let since = opened;
  // A page that is left open does not ask for ever.
  let renewals = 12;
  // What stops the request behind the field, and what is settled when the last one has ended.
  let offered = null;
  let ended = Promise.resolve();
  let isPossible = false;
  let isSent = false;

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

  const isOld = () => Date.now() - since > OLD;

  const renew = async (signal) => {
    if (!box.dataset.renew || renewals <= 0 || Date.now() - opened > LAST) throw new Error("no more questions");
    renewals -= 1;
    const response = await fetch(box.dataset.renew, { signal, cache: "no-store", redirect: "error" });
    if (!response.ok) throw new Error("no question");
    const fresh = await response.json();
    box.dataset.options = fresh.options;
    form.elements.passkey_state.value = fresh.state;
    since = Date.now();
  };

  // The first answer is the one that is sent.
  const send = (answer) => {
    if (isSent) return;
    isSent = true;
    form.elements.passkey.value = written(answer);
    if (form.elements.password) form.elements.password.value = "";
    form.submit();
  };

  const withdraw = () => {
    if (offered) offered.abort();
    offered = null;
  };

  const offer = () => {
    if (!isPossible || offered || button.disabled) return;
    const own = new AbortController();
    offered = own;
    ended = ended.then(async () => {
      try {
        if (isOld()) await renew(own.signal);
        const asked = { ...question(), mediation: "conditional", signal: own.signal };
        send(await navigator.credentials.get(asked));
      } catch {
        // Nobody has pressed anything, so nothing is said.
      }
      if (offered === own) offered = null;
    });
  };

  const offerAnew = () => {
    if (isOld()) withdraw();
    offer();
  };

  const ask = async () => {
    say("");
    if (isNew && !form.reportValidity()) return;
    button.disabled = true;
    try {
      // Browsers take one request at a time.
      withdraw();
      await ended;
      if (isSent) return;
      if (isOld() && !(await renew(AbortSignal.timeout(10000)).then(() => true, () => false))) {
        // An address with a fragment is not loaded anew by going there.
        if (location.hash) location.reload();
        else location.replace(location.href);
        return;
      }
      const answer = await (isNew ? navigator.credentials.create(question()) : navigator.credentials.get(question()));
      const stored = answer.getClientExtensionResults().credProps;
      if (isNew && stored && stored.rk === false) throw new Error("not kept");
      send(answer);
    } catch (error) {
      if (error.name === "InvalidStateError") say("There is a passkey of yours on this device already.");
      else if (error.name === "NotAllowedError") say("No passkey was chosen, or it took too long. Try again.");
      else if (error.message === "not kept") say("This device cannot keep a passkey that is found without a user name. Take another one.");
      else say("Passkeys do not work in this browser or on this device.");
      button.disabled = false;
      offer();
    }
  };

  const start = (canOffer) => {
    isPossible = canOffer;
    if (!isPossible) return;
    offer();
    form.elements.user.addEventListener("focus", offerAnew);
    addEventListener("focus", offerAnew);
    // Whoever is not at this window may be answering in another, which is not to be taken away.
    setInterval(() => {
      if (offered && isOld() && document.hasFocus()) offerAnew();
    }, 15000);
  };

  if (!isNew && PublicKeyCredential.isConditionalMediationAvailable) {
    PublicKeyCredential.isConditionalMediationAvailable().then(start, () => {});
  }
  button.addEventListener("click", ask);
  // Back from the page that followed: what was answered is spent.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
  box.hidden = false;
})();
