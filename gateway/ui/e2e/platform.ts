import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { upm } from "./world";

/** A platform of a test's own, in a process of its own. It has no cluster. */
export class Platform {
  readonly base: string;
  readonly password = "correct horse battery";
  private readonly data: string;
  private readonly listen: string;
  private child: ChildProcess | undefined;

  /** Listens at `port` for browsers, and at the next one for agents. */
  constructor(private readonly port: number) {
    this.data = mkdtempSync(join(tmpdir(), "upm-ui-"));
    this.listen = `127.0.0.1:${port}`;
    this.base = `http://${this.listen}`;
  }

  async start(): Promise<void> {
    const agents = `127.0.0.1:${this.port + 1}`;
    const options = ["--data", join(this.data, "data"), "--listen", this.listen];
    this.child = spawn(upm, ["dev", ...options, "--agent-listen", agents, "--agent-address", agents], {
      stdio: "ignore",
    });
    const { child } = this;
    const until = Date.now() + 90_000;
    for (;;) {
      const up = await fetch(`${this.base}/healthz`).then(
        (answer) => answer.ok,
        () => false,
      );
      if (up) return;
      if (child.exitCode !== null) throw new Error(`the platform ended with ${child.exitCode}`);
      if (Date.now() > until) throw new Error("the platform does not start");
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** Ends the process; what it keeps stays. */
  async stop(): Promise<void> {
    const { child } = this;
    this.child = undefined;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill();
    const late = setTimeout(() => child.kill("SIGKILL"), 20_000);
    await ended;
    clearTimeout(late);
  }

  /** Ends the process and removes what it kept. */
  async remove(): Promise<void> {
    await this.stop();
    rmSync(this.data, { recursive: true, force: true });
  }

  get setupToken(): string {
    return readFileSync(join(this.data, "data/setup-token"), "utf8").trim();
  }

  /** Makes the administrator `admin`. */
  async setUp(): Promise<void> {
    const token = join(this.data, "data/setup-token");
    await this.cli("setup", "--token-file", token, ...this.admin());
  }

  /** Logs the command line in. */
  async logIn(): Promise<void> {
    await this.cli("login", ...this.admin());
  }

  private admin(): string[] {
    const file = join(this.data, "password");
    writeFileSync(file, this.password, { mode: 0o600 });
    return ["--server", this.base, "--user", "admin", "--password-file", file];
  }

  /** A command of the administrator. It does not hold up the test's own wire. */
  async cli(...args: string[]): Promise<string> {
    const env = { ...process.env, UPM_CONFIG: join(this.data, "login.json") };
    return (await promisify(execFile)(upm, args, { env })).stdout;
  }

  /** Puts services into the store of a platform that does not run, as they are kept: the test must not have to make them one by one. */
  seed(project: string, count: number): void {
    const file = join(this.data, "data/redis.db");
    execFileSync("/usr/bin/python3", ["-c", SEED, file, project, String(count)], { stdio: ["ignore", "pipe", "pipe"] });
  }
}

const SEED = `
import json, sqlite3, sys, time, uuid
file, project, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
now = time.time_ns() // 1000
def row(n):
    service = f"service-{n:05}"
    spec = dict(cluster=f"cluster-{n % 40}", version="7.0.15", members=3, cpu="500m", memory="256Mi", volume_size="1Gi",
                storage_class=None, parameters={}, data_loss="Never", placement="SpreadPreferred")
    return (f"projects/{project}/redisServices/{service}", project, service, "redis", str(uuid.uuid4()), 1, json.dumps(spec), 1,
            json.dumps({"team": f"team-{n % 25}"}), f"number {n} of team-{n % 25}", "KeepData", f"cluster-{n % 40}",
            "Failed" if n % 10 == 0 else "Active", "", "", "", json.dumps(dict(units=3, members=3, served=True)), "{}", None, now + n, now + n)
with sqlite3.connect(file) as store:
    store.executemany(f"INSERT INTO services VALUES ({','.join('?' * 21)})", [row(n) for n in range(count)])
`;
