// The coordinator's API, as docs/api.md has it.

/** The coordinator has answered, and did not do it. */
export class Refused extends Error {
  constructor(status, error) {
    super(error?.message ?? `status ${status}`);
    this.status = status;
    this.code = error?.code;
  }
}

export function keepToken(token) {
  sessionStorage.setItem("token", token);
}

export function forgetToken() {
  sessionStorage.removeItem("token");
}

/** What the coordinator says to a GET, or to a POST of `body`. */
export async function ask(path, body) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
  });
  const said = await response.json();
  if (!response.ok) throw new Refused(response.status, said.error);
  return said;
}
