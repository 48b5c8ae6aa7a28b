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

  /** Puts a service into the store of a platform that does not run whose election was refused, as its cluster would report it. */
  seedRefused(project: string, service: string): void {
    const data = join(this.data, "data");
    execFileSync("/usr/bin/python3", ["-c", REFUSED, data, project, service], { stdio: ["ignore", "pipe", "pipe"] });
  }

  /** Puts services into the store of a platform that does not run, as they are kept: the test must not have to make them one by one. */
  seed(project: string, count: number): void {
    const file = join(this.data, "data/redis.db");
    execFileSync("/usr/bin/python3", ["-c", SEED, file, project, String(count)], { stdio: ["ignore", "pipe", "pipe"] });
  }
}

/** A service whose election was refused, as its cluster reports it. */
const REFUSED = `
import hashlib, json, sqlite3, sys, time, uuid
data, project, service = sys.argv[1:]
DESIRED = {"pools": {"": {"units": 3}}, "topology": {"members": {"": 3}, "served": True}}
now, agent, uid = time.time_ns() // 1000, "far", uuid.uuid4()
group, kind = "upm.syntropycloud.io", "RedisReplication"
name, key = f"projects/{project}/redisServices/{service}", f"{group}/{kind}/{project}/{service}"
spec = dict(cluster=agent, version="7.0.15", members=3, cpu="500m", memory="256Mi", volume_size="1Gi",
            storage_class=None, parameters={}, data_loss="Never", placement="SpreadPreferred",
            access=dict(port=6379, user="default"))
member = lambda role, **more: dict(host="h", port=6379, role=role, ready=True, **more)
live = dict(metadata=dict(generation=1), status=dict(
    observedGeneration=1, epoch=4, phase="Refused", writable=False,
    topology={f"{service}-0": member("None", message="not reachable"), f"{service}-1": member("Replica", masterLinkStatus="down"),
              f"{service}-2": member("Replica", masterLinkStatus="down")},
    refusal=dict(candidate=f"{service}-1", loss=f"{service}-1 would lead without what {service}-0 confirmed since offset 4711",
                 lossId="3f9a0c51b2de", missing=[dict(predicate="MemberReachable", member=f"{service}-0", detail="does not answer since 14:02"),
                                                 dict(predicate="PositionKnown", member=f"{service}-2", detail="it restarted")])))
def insert(store, table, **row):
    store.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values()))
with sqlite3.connect(f"{data}/redis.db") as store:
    insert(store, "services", name=name, project=project, service_id=service, engine="redis", uid=str(uuid.uuid4()), version=1, spec=json.dumps(spec),
           spec_version=1, labels="{}", description="", deletion_policy="KeepData", cluster=agent, life="Active", message="", operation="", package="",
           desired=json.dumps(DESIRED), intents="{}", retained=None, create_us=now, update_us=now)
with sqlite3.connect(f"{data}/hub.db") as store:
    insert(store, "agents", id=agent, incarnation=str(uuid.uuid4()), approved=True, enrolled=True, revoked=False, epoch=1, replica="", connected_us=now,
           seen_us=now, build="", cluster_uid="", k8s_version="", head_rev=1, received_rev=1, durable_rev=1, compacted_rev=0, change_seq=2, purged_seq=0,
           root="", status_root="", key_count=1, certificate_us=0, message="", issuer="", jwks="", created_us=now)
    insert(store, "intents", agent=agent, key_text=key, api_group=group, version="v1alpha1", kind=kind, namespace=project, name=service, owner=name,
           writer_epoch=1, intent_uid=uid.hex, generation=1, digest=hashlib.sha256(b"{}").hexdigest(), body="{}", options=b"", priority=0, rev=1,
           tombstone=False, traceparent="", outcome=1, result_generation=1, result=b"", result_us=now, change_seq=1)
    insert(store, "statuses", agent=agent, key_text=key, intent_uid=uid.hex, intent_generation=1, observed_generation=1, resource_version="1",
           digest=hashlib.sha256(json.dumps(live).encode()).hexdigest(), body=json.dumps(live), gone=False, edges=b"", epoch=1, seq=1, change_seq=2,
           update_us=now)
`;

const SEED = `
import json, sqlite3, sys, time, uuid
file, project, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
DESIRED = {"pools": {"": {"units": 3}}, "topology": {"members": {"": 3}, "served": True}}
now = time.time_ns() // 1000
def row(n):
    service = f"service-{n:05}"
    spec = dict(cluster=f"cluster-{n % 40}", version="7.0.15", members=3, cpu="500m", memory="256Mi", volume_size="1Gi",
                storage_class=None, parameters={}, data_loss="Never", placement="SpreadPreferred",
                access=dict(port=6379, user="default"))
    return (f"projects/{project}/redisServices/{service}", project, service, "redis", str(uuid.uuid4()), 1, json.dumps(spec), 1,
            json.dumps({"team": f"team-{n % 25}"}), f"number {n} of team-{n % 25}", "KeepData", f"cluster-{n % 40}",
            "Failed" if n % 10 == 0 else "Active", "", "", "", json.dumps(DESIRED), "{}", None, now + n, now + n)
with sqlite3.connect(file) as store:
    store.executemany(f"INSERT INTO services VALUES ({','.join('?' * 21)})", [row(n) for n in range(count)])
`;
