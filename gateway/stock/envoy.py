"""Asks Envoy and the gateway the same: CASES ENVOY ENVOY_WITH_EVENTS GATEWAY. Each must answer as the file says.

`--record` in place of GATEWAY prints what Envoy answers instead, for whoever adds a case.
"""

import base64
import http.client
import json
import sys


def body(request):
    if "title-of-length" in request:
        return ('{"title":"' + "x" * request["title-of-length"] + '"}').encode()
    if "base64" in request:
        return base64.b64decode(request["base64"])
    content = request.get("body")
    if content is None:
        return b""
    return content.encode() if isinstance(content, str) else json.dumps(content).encode()


def ask(address, request):
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.putrequest(request["method"], request["path"], skip_accept_encoding=True)
        content = body(request)
        for name, value in request.get("headers", {}).items():
            connection.putheader(name, value)
        if content or request["method"] in ("POST", "PUT", "PATCH"):
            connection.putheader("content-length", str(len(content)))
        connection.endheaders()
        # Who refuses early closes; its answer is there all the same.
        try:
            connection.send(content)
        except OSError:
            pass
        answer = connection.getresponse()
        try:
            data, cut = answer.read(), False
        except http.client.IncompleteRead as error:
            data, cut = error.partial, True
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, data, cut
    finally:
        connection.close()


def has(found, wanted):
    """Whether everything wanted is there; what must be missing is wanted as None."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(has(found[name], value) if name in found else value is None for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(has, found, wanted))
    return found == wanted and isinstance(found, bool) == isinstance(wanted, bool)


def shown(what, answer):
    status, headers, data, cut = answer
    return {
        "status": lambda: status,
        "headers": lambda: headers,
        "json": lambda: json.loads(data),
        "reason": lambda: json.loads(data)["error"]["details"][0]["reason"],
        "lines": lambda: [json.loads(line) for line in data.decode().splitlines()],
        "text": data.decode,
        "base64": lambda: base64.b64encode(data).decode(),
        "length": lambda: len(data),
        "cut": lambda: cut,
    }[what]()


def check(who, case, wanted, address):
    answer = ask(address, case["request"])
    for what, value in wanted.items():
        try:
            found = shown(what, answer)
        except ValueError as error:
            found = repr(error)
        assert has(found, value), f"{who}, {case['sentence']}: {what} is not {value} in {answer[0]} {answer[1]} {answer[2][:500]} cut: {answer[3]}"


path, envoy, events, gateway = sys.argv[1:]
with open(path) as file:
    cases = json.load(file)
for case in cases:
    neighbour = events if case.get("events") else envoy
    if gateway == "--record":
        status, headers, data, cut = ask(neighbour, case["request"])
        print(case["sentence"], status, headers, data[:300], "cut" if cut else "", sep="\n  ")
        continue
    check("Envoy", case, case["envoy"], neighbour)
    check("the gateway", case, case["ours"], gateway)
    print(f"client beside Envoy, {case['sentence']}: {'as Envoy' if case['ours'] == case['envoy'] else 'otherwise, because ' + case['because']}", flush=True)
