// Keeps a novel's page as the novel is: the server sends an event for all that is committed, and
// the page is read again. Forms are sent without leaving the page, so that the focus stays.

const EVENTS = [
  "flow.started", "flow.advanced", "flow.status", "stage.completed",
  "session.bound", "session.primary", "session.step", "session.failed",
];
const byId = (id) => document.getElementById(id);
const tell = (text) => { byId("connection").textContent = text; };
let isOutdated = false, isReading = false, isSending = false, sent = Promise.resolve();

// Make an element like another. What both have stays, with its focus and what was typed into it.
function patch(old, now) {
  for (const { name } of [...old.attributes])
    if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of now.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const nodes = [...old.childNodes];
  for (const node of [...now.childNodes]) {
    const was = nodes.shift();
    if (!was) old.append(node);
    else if (was.isEqualNode(node)) continue;
    else if (was.nodeName === node.nodeName && was.id === node.id && was.attributes) patch(was, node);
    else was.replaceWith(node);
  }
  for (const node of nodes) node.remove();
}

async function show(answer, alert) {
  const next = new DOMParser().parseFromString(await answer.text(), "text/html");
  const focused = document.activeElement, part = focused.closest("[tabindex='-1']");
  if (alert) next.getElementById("alert").replaceWith(alert.cloneNode(true));
  document.title = next.title;
  patch(document.body, next.body);
  if (!alert && !answer.ok) byId("alert").focus();
  else if (!focused.isConnected) (byId(focused.id) ?? part)?.focus();
}

async function refresh() {
  isOutdated = true;
  if (isReading) return;
  for (isReading = true; isOutdated; ) {
    isOutdated = false;
    const answer = await fetch(location.href).catch(() => null);
    if (answer && answer.status < 500 && !isSending) await show(answer, byId("alert"));
  }
  isReading = false;
}

function watch() {
  const { flow, position } = document.body.dataset;
  if (!flow) return;
  const events = new EventSource(`/api/flows/${flow}/events?last_event_id=${flow}:${position}`);
  for (const type of ["open", ...EVENTS]) events.addEventListener(type, refresh);
  events.addEventListener("error", () => {
    tell("The server does not answer. Trying again …");
    if (events.readyState === EventSource.CLOSED) setTimeout(() => refresh().then(watch), 3000);
  });
}

async function send(action, body) {
  isSending = true;
  try {
    const answer = await fetch(action, { method: "POST", body });
    if (answer.status >= 500) throw answer;
    if (answer.redirected) history.replaceState(null, "", answer.url);
    await show(answer);
  } catch {
    tell("The server has not taken this. Try again.");
  }
  isSending = false;
  refresh(); // what happened meanwhile was not shown
}

document.addEventListener("submit", (event) => {
  if (!document.body.dataset.flow) return;
  event.preventDefault();
  const { action } = event.target, data = new FormData(event.target, event.submitter);
  event.target.closest("details")?.removeAttribute("open");
  sent = sent.then(() => send(action, new URLSearchParams(data)));
});

watch();
