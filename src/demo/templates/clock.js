"use strict";
const clock = document.getElementById("clock");
const note = document.getElementById("note");
const ticks = new EventSource("/clock");
ticks.onmessage = (event) => {
  clock.classList.remove("waiting");
  clock.textContent = event.data.slice(11, 19);
  note.textContent = "The time is in UTC.";
};
ticks.onerror = () => {
  clock.classList.add("waiting");
  const closed = ticks.readyState === EventSource.CLOSED;
  note.textContent = closed ? "The clock has stopped: you may not see it any more." : "The connection was lost. Trying again …";
};
