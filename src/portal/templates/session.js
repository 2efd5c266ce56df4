// Tells people before their session ends, so that nobody loses what they typed. Include it in a page of the app:
//   <script src="/.doorward/session.js" data-warn="120" defer></script>
// data-warn: how many seconds before the end (20 to 86400, 120 if it is not given); data-touch: the address that is
// fetched to stay logged in, the page itself if it is not given. It needs no inline script or style.
(() => {
  "use strict";
  const script = document.currentScript;
  const given = Number(script && script.dataset.warn);
  const WARN = given >= 20 && given <= 86400 ? given : 120;
  const touchAddress = () => (script && script.dataset.touch) || location.pathname + location.search;
  // Longest time between two questions: the session may have ended or been used elsewhere. While the notice shows, less.
  const CALM = 300, ALERT = 10, TROUBLE = 30;
  let timer = 0, notice = null, asking = false, wasIn = false;

  const later = (seconds) => {
    clearTimeout(timer);
    timer = setTimeout(ask, Math.max(1, seconds) * 1000);
  };

  // Asking does not keep the session alive.
  const ask = async () => {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch("/.doorward/session", { credentials: "same-origin", cache: "no-store" });
      if (answer.status === 401) {
        // Over. The page leads to the login; one that nobody was logged in to stays as it is.
        hide();
        if (wasIn) location.reload();
        return;
      }
      if (!answer.ok) throw new Error(answer.status);
      judge(await answer.json());
    } catch {
      later(TROUBLE);
    } finally {
      asking = false;
    }
  };

  const judge = (told) => {
    wasIn = true;
    const left = Math.min(told.idle_seconds_left, told.absolute_seconds_left);
    if (left > WARN) {
      hide();
      later(Math.min(CALM, left - WARN));
    } else {
      // Activity helps only where it is the lack of it that ends the session.
      show(left, told.absolute_seconds_left > left);
      later(Math.min(ALERT, left + 1));
    }
  };

  const stay = async () => {
    try {
      await fetch(touchAddress(), { credentials: "same-origin", cache: "no-store", headers: { Accept: "*/*" } });
    } catch {
      // The next question tells what has become of the session.
    }
    ask();
  };

  const text = (left) => {
    const minutes = Math.ceil(left / 60);
    return minutes > 1 ? `You will be logged out in ${minutes} minutes.` : "You will be logged out in less than a minute.";
  };

  const show = (left, canStay) => {
    if (notice && notice.canStay !== canStay) hide();
    if (!notice) notice = build(canStay);
    // Only what changes is read out.
    const message = text(left);
    if (notice.message.textContent !== message) notice.message.textContent = message;
  };

  const hide = () => {
    if (notice) notice.box.remove();
    notice = null;
  };

  const build = (canStay) => {
    const box = document.createElement("div");
    box.id = "doorward-session-notice";
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", "Your session");
    Object.assign(box.style, {
      position: "fixed", insetInline: "1rem", bottom: "1rem", zIndex: "2147483647", maxWidth: "28rem",
      marginInline: "auto", padding: "1rem 1.25rem", border: "1px solid #74837f", borderRadius: ".75rem",
      background: "#ffffff", color: "#16211f", font: "1rem/1.5 system-ui, sans-serif",
      boxShadow: "0 12px 32px -12px rgb(0 0 0 / 40%)",
    });
    const message = document.createElement("p");
    message.setAttribute("role", "alert");
    message.style.margin = "0 0 .75rem";
    const action = document.createElement(canStay ? "button" : "a");
    if (canStay) {
      action.type = "button";
      action.textContent = "Stay logged in";
      action.addEventListener("click", stay);
    } else {
      action.textContent = "Log in again";
      // With the fragment as it is when the link is followed: pages change it without being loaded.
      const lead = () => {
        const back = encodeURIComponent(location.pathname + location.search);
        action.href = `/.doorward/login?return_to=${back}&prompt=login${location.hash}`;
      };
      lead();
      action.addEventListener("click", lead);
    }
    Object.assign(action.style, {
      display: "inline-block", minHeight: "2.75rem", padding: ".5rem 1rem", border: "1px solid transparent",
      borderRadius: ".5rem", background: "#0f5f5c", color: "#ffffff", font: "inherit", fontWeight: "600",
      textDecoration: "none", cursor: "pointer",
    });
    box.append(message, action);
    document.body.append(box);
    return { box, message, canStay };
  };

  // A page that was asleep, or comes out of the back/forward cache, asks at once.
  document.addEventListener("visibilitychange", () => document.hidden || ask());
  addEventListener("pageshow", (event) => event.persisted && ask());
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", ask);
  else ask();
})();
