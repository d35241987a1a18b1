// Talking to the server that this page came from: JSON, and the stream of an answer.

const SILENCE_MS = 40000; // The server sends a comment every 10 seconds while a stream is open.
const KEY = "lmstack-key";

/** What the server said was wrong, or that it could not be reached (`status` 0). */
export class ApiError extends Error {
  constructor(message, { hint = "", status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.hint = hint;
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const lost = () =>
  new ApiError("The connection to lmstack was lost.", {
    hint: "Is `lmstack up` still running? This page reconnects by itself.",
  });

/** Keep the API key for as long as this tab is open. */
export function useKey(key) {
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    memoryKey = key;
  }
}
let memoryKey = "";

/** Whether requests carry a key; a plain link then cannot reach the API. */
export function storedKey() {
  try {
    return sessionStorage.getItem(KEY) ?? memoryKey;
  } catch {
    return memoryKey;
  }
}

/** Keep `key` if the server accepts it; throws an ApiError with status 401 where it does not. */
export async function tryKey(key) {
  // What no header can carry is no key of this server.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new ApiError("the API key is missing or wrong", { status: 401 });
  await request("/api/status", { key });
  useKey(key);
}

async function request(path, { body, signal, etag, key = storedKey() } = {}) {
  const headers = { Accept: "application/json" };
  if (etag) headers["If-None-Match"] = etag;
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
  if (!response.ok && response.status !== 304) throw await refusal(response);
  return response;
}

async function refusal(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Not ours, a proxy's perhaps: the status has to do.
  }
  return new ApiError(error.message ?? `The server answered ${response.status}.`, {
    hint: error.hint ?? "",
    status: response.status,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
  });
}

/** GET a picture, as something that a canvas can draw. */
export async function picture(path) {
  const response = await request(path);
  try {
    return await createImageBitmap(await response.blob());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
}

/** GET, or POST where there is a body; parsed JSON. */
export async function json(path, options) {
  return parsedJson(await request(path, options));
}

/** GET {value, etag}, unless it is still what `etag` names: then null. */
export async function changed(path, { etag, signal }) {
  const response = await request(path, { etag, signal });
  if (response.status === 304) return null;
  return { value: await parsedJson(response), etag: response.headers.get("ETag") };
}

async function parsedJson(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost();
  }
}

/** Send a file; `told(share)` hears how much of it is there. */
export function upload(file, told) {
  return new Promise((resolve, reject) => {
    // Not fetch: it does not tell how far a body is.
    const sender = new XMLHttpRequest();
    sender.open("PUT", `/api/uploads?${new URLSearchParams({ name: file.name })}`);
    sender.setRequestHeader("Content-Type", "application/octet-stream");
    if (storedKey()) sender.setRequestHeader("Authorization", `Bearer ${storedKey()}`);
    sender.upload.addEventListener("progress", (event) => event.lengthComputable && told(event.loaded / event.total));
    sender.addEventListener("error", () => reject(lost()));
    sender.addEventListener("abort", () => reject(lost()));
    sender.addEventListener("load", async () => {
      if (sender.status === 201) resolve(JSON.parse(sender.responseText));
      else reject(await refusal(new Response(sender.responseText, { status: sender.status })));
    });
    sender.send(file);
  });
}

/** Ask, of the files `where` says and in the manner `answers`; yields {event, data}. Aborting `signal` closes the connection, which stops the model. */
export async function* ask(question, history, { where, answers }, signal) {
  const response = await request("/api/ask", { body: { question, history, where, answers }, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  try {
    while (true) {
      const { value, done } = await inTime(reader.read(), signal);
      if (done) return;
      buffer += value;
      const parts = buffer.split("\n\n");
      buffer = parts.pop();
      for (const part of parts) {
        const event = parsed(part);
        if (event) yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function inTime(read, signal) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(lost()), SILENCE_MS);
  });
  try {
    return await Promise.race([read, silence]);
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw lost();
  } finally {
    clearTimeout(timer);
  }
}

function parsed(part) {
  let event = "message";
  let data = "";
  for (const line of part.split("\n")) {
    if (line.startsWith("event: ")) event = line.slice(7);
    else if (line.startsWith("data: ")) data += line.slice(6);
  }
  return data ? { event, data: JSON.parse(data) } : null;
}
