//! Against real servers.

mod returns;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use redis::AsyncCommands;
use upm_proto::unit::v1 as pb;

use crate::member::facts::Position;
use crate::rig::{PASSWORD, PATIENCE, Rig};

fn grant(epoch: i64, min_replicas_to_write: i32) -> pb::GrantPrimaryRequest {
    pb::GrantPrimaryRequest {
        epoch,
        min_replicas_to_write,
        ..pb::GrantPrimaryRequest::default()
    }
}

/// The same grant, with which every unit may follow.
async fn admitting(rig: &Rig, request: pb::GrantPrimaryRequest) -> pb::GrantPrimaryRequest {
    let mut admitted_member_ids = Vec::new();
    for index in 0..rig.units.len() {
        let seen = rig
            .until(index, "it has a member id", |seen| {
                !seen.member_id.is_empty()
            })
            .await;
        admitted_member_ids.push(seen.member_id);
    }
    pb::GrantPrimaryRequest {
        admitted_member_ids,
        ..request
    }
}

fn reason(status: &tonic::Status) -> String {
    use prost::Message;
    let details = upm_proto::google::rpc::Status::decode(status.details()).unwrap();
    upm_proto::google::rpc::ErrorInfo::decode(details.details[0].value.as_slice())
        .unwrap()
        .reason
}

async fn booted(rig: &Rig) {
    for index in 0..rig.units.len() {
        rig.until(index, "the server answers", |seen| seen.reachable)
            .await;
    }
}

/// Asks again, as controllers do, while it cannot be done just now or the answer got lost; a refusal is an answer.
async fn answer<T>(
    mut ask: impl AsyncFnMut() -> Result<tonic::Response<T>, tonic::Status>,
) -> Result<T, tonic::Status> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Err(status)
                if Instant::now() < until
                    && (status.code() == tonic::Code::Unavailable
                        || status.details().is_empty()) =>
            {
                println!("once more: {status}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            answer => return answer.map(tonic::Response::into_inner),
        }
    }
}

/// What was answered, when the server could be asked for it; or what it says a moment later.
async fn complete(rig: &Rig, index: usize, seen: pb::RedisMember) -> pb::RedisMember {
    if seen.reachable {
        return seen;
    }
    rig.until(index, "the server answers", |seen| seen.reachable)
        .await
}

async fn lead(
    rig: &Rig,
    index: usize,
    request: pb::GrantPrimaryRequest,
) -> Result<pb::RedisMember, tonic::Status> {
    let seen = answer(async || rig.member(index).grant_primary(request.clone()).await).await?;
    Ok(complete(rig, index, seen).await)
}

async fn promise(rig: &Rig, index: usize, epoch: i64) -> pb::RedisMember {
    let request = pb::PromiseEpochRequest { epoch };
    let seen = answer(async || rig.member(index).promise_epoch(request).await).await;
    complete(rig, index, seen.unwrap()).await
}

async fn pause(rig: &Rig, index: usize, epoch: i64, seconds: i64) -> pb::RedisMember {
    let pause = Some(prost_types::Duration { seconds, nanos: 0 });
    let request = pb::PauseWritesRequest { epoch, pause };
    let seen = answer(async || rig.member(index).pause_writes(request).await).await;
    complete(rig, index, seen.unwrap()).await
}

/// Grants unit 0 the epoch and lets the others follow.
async fn group(rig: &Rig, epoch: i64) -> pb::RedisMember {
    booted(rig).await;
    let granted = lead(rig, 0, admitting(rig, grant(epoch, 1)).await)
        .await
        .unwrap();
    for index in 1..rig.units.len() {
        follow(rig, index, epoch, 0, &granted.replid).await.unwrap();
    }
    for index in 1..rig.units.len() {
        rig.until(index, "the link is up", |seen| seen.link_up)
            .await;
    }
    let all = rig.units.len() - 1;
    let online = |seen: &pb::RedisMember| {
        seen.replicas
            .iter()
            .filter(|replica| replica.state == "online")
            .count()
    };
    rig.until(0, "all replicas are online", |seen| online(seen) == all)
        .await;
    granted
}

async fn follow(
    rig: &Rig,
    index: usize,
    epoch: i64,
    primary: usize,
    replid: &str,
) -> Result<pb::RedisMember, tonic::Status> {
    let request = pb::FollowPrimaryRequest {
        epoch,
        host: "127.0.0.1".to_owned(),
        port: rig.port(primary),
        replid: replid.to_owned(),
        offset: 0,
    };
    answer(async || rig.member(index).follow_primary(request.clone()).await).await
}

async fn confirmed(rig: &Rig, index: usize, key: &str) -> redis::RedisResult<i64> {
    let mut user = rig.user(index).await?;
    let _: () = user.set(key, "x").await?;
    redis::cmd("WAIT")
        .arg(1)
        .arg(2000)
        .query_async(&mut user)
        .await
}

/// Writes until a replica has it. One that is slow just now makes the primary refuse writes, or not confirm them in time.
async fn confirm(rig: &Rig, index: usize, key: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let outcome = confirmed(rig, index, key).await;
        if outcome.as_ref().is_ok_and(|replicas| *replicas >= 1) {
            return;
        }
        assert!(Instant::now() < until, "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boots_harmless_and_ready() {
    let rig = Rig::new(1);
    booted(&rig).await;
    let seen = rig
        .until(0, "it is parked", |seen| {
            seen.grant() == pb::RedisGrant::Parked && seen.role == "slave"
        })
        .await;
    assert_eq!(
        (seen.grant_epoch, seen.promised_epoch, seen.keys),
        (0, 0, 0)
    );
    assert_eq!(seen.standing(), pb::Standing::Untold);
    let mut user = rig.user(0).await.unwrap();
    let read = user.get::<_, Option<String>>("k").await.unwrap_err();
    assert_eq!(read.code(), Some("MASTERDOWN"));
    assert!(user.set::<_, _, ()>("k", 1).await.is_err());
    // readiness follows the watcher, which looks by itself
    let state = rig.until_ready(0).await;
    assert_eq!(state.process(), pb::ProcessState::Running);
    let until = Instant::now() + PATIENCE;
    loop {
        // a watcher that gets no CPU for a second takes that back for a moment
        let told = crate::ready::ask(&rig.units[0].config.run);
        if told.as_ref().is_ok_and(|line| line == "ready") {
            break;
        }
        assert!(Instant::now() < until, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_secrets_out_of_arguments_and_the_fence_out_of_users_hands() {
    let rig = Rig::new(1);
    group(&rig, 1).await;
    let pid = rig.pid(0).await;
    let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let file = std::fs::read_to_string(&rig.units[0].config.config.output).unwrap();
    for text in [arguments, environment, file] {
        assert!(!text.contains(PASSWORD));
    }
    let mut user = rig.user(0).await.unwrap();
    for command in [
        "REPLICAOF NO ONE",
        "CONFIG SET min-replicas-to-write 0",
        "CONFIG GET masterauth",
        "CONFIG RESETSTAT",
        "FAILOVER ABORT",
        "MODULE LIST",
        "ACL LIST",
        "CLIENT PAUSE 10",
        "SHUTDOWN",
        "ACL SETUSER default +@all",
    ] {
        let mut words = command.split(' ');
        let mut call = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            call.arg(word);
        });
        let refused = call.query_async::<()>(&mut user).await.unwrap_err();
        assert_eq!(refused.code(), Some("NOPERM"), "{command}");
    }
    let _: () = user.set("k", "v").await.unwrap_or(());
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut user)
        .await
        .unwrap();
    assert!(keys.len() <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_away_callers_that_are_not_controllers() {
    let rig = Rig::new(1);
    booted(&rig).await;
    for spiffe in [
        "spiffe://upm/unit/test/redis-1",
        "spiffe://upm/module/redis",
    ] {
        let channel = rig.channel_as(0, spiffe);
        let mut client = pb::redis_member_service_client::RedisMemberServiceClient::new(channel);
        assert!(
            client
                .observe_member(pb::ObserveMemberRequest {})
                .await
                .is_err(),
            "{spiffe}"
        );
    }
    let stranger = crate::rig::Authority::new();
    let (certificate, key) = stranger.issue("spiffe://upm/controller/kauntlet", "controller");
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(
            &rig.authority.certificate,
        ))
        .identity(tonic::transport::Identity::from_pem(certificate, key))
        .domain_name(crate::rig::host("redis-0"));
    let channel =
        tonic::transport::Endpoint::from_shared(format!("https://{}", rig.units[0].config.listen))
            .unwrap();
    let mut client = pb::redis_member_service_client::RedisMemberServiceClient::new(
        channel.tls_config(tls).unwrap().connect_lazy(),
    );
    assert!(
        client
            .observe_member(pb::ObserveMemberRequest {})
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn promises_of_all_replicas_stop_confirmations_at_a_living_primary() {
    let rig = Rig::new(3);
    group(&rig, 1).await;
    confirm(&rig, 0, "a").await;
    let (one, two) = tokio::join!(promise(&rig, 1, 2), promise(&rig, 2, 2));
    for seen in [&one, &two] {
        assert_eq!(
            (seen.grant(), seen.promised_epoch, seen.standing()),
            (pb::RedisGrant::Parked, 2, pb::Standing::Synced)
        );
    }
    assert_eq!(one.replid, two.replid, "the offsets are comparable");
    // the primary still believes in itself, but nobody acknowledges it
    assert!(confirmed(&rig, 0, "b").await.is_err());
    // a controller that sleeps cannot bring the old epoch back
    let stale = follow(&rig, 1, 1, 0, &one.replid).await.unwrap_err();
    assert_eq!(reason(&stale), "STALE_EPOCH");
    // the election: the top takes over, the others follow, with partial resynchronizations
    let (top, other) = if one.offset >= two.offset {
        (1, 2)
    } else {
        (2, 1)
    };
    let elected = if top == 1 { &one } else { &two };
    let request = pb::GrantPrimaryRequest {
        replid: elected.replid.clone(),
        offset: elected.offset,
        ..grant(2, 1)
    };
    let granted = lead(&rig, top, admitting(&rig, request).await)
        .await
        .unwrap();
    assert_eq!(granted.replid2, elected.replid);
    for index in [0, other] {
        let seen = follow(&rig, index, 2, top, &granted.replid).await.unwrap();
        assert_eq!(seen.grant(), pb::RedisGrant::Replica);
        rig.until(index, "it has synchronized", |seen| {
            seen.link_up && seen.standing() == pb::Standing::Synced
        })
        .await;
    }
    rig.until(top, "a replica is online", |seen| {
        seen.replicas
            .iter()
            .any(|replica| replica.state == "online")
    })
    .await;
    confirm(&rig, top, "c").await;
    let mut user = rig.user(0).await.unwrap();
    assert_eq!(
        user.get::<_, Option<String>>("a").await.unwrap().as_deref(),
        Some("x")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_ends_a_frozen_primary_which_comes_back_parked() {
    let rig = Rig::new(2);
    group(&rig, 1).await;
    confirm(&rig, 0, "a").await;
    rig.until_whole(0).await;
    rig.signal(0, Signal::SIGSTOP).await;
    let begun = Instant::now();
    rig.until(0, "it counts as unresponsive", |seen| {
        !seen.reachable && seen.process() == pb::ProcessState::Unresponsive
    })
    .await;
    let seen = promise(&rig, 0, 2).await;
    println!(
        "frozen, noticed, ended and back after {:?}",
        begun.elapsed()
    );
    assert_eq!(
        (seen.grant(), seen.promised_epoch, seen.starts),
        (pb::RedisGrant::Parked, 2, 2)
    );
    assert_eq!(
        (seen.recorded_grant(), seen.grant_epoch),
        (pb::RedisGrant::Primary, 1)
    );
    assert_eq!(seen.standing(), pb::Standing::Interrupted);
    assert!(seen.aof_intact && !seen.host_restarted);
    assert_eq!(
        reason(&lead(&rig, 0, grant(1, 1)).await.unwrap_err()),
        "STALE_EPOCH"
    );
    assert!(lead(&rig, 0, grant(2, 0)).await.is_ok());
    let mut user = rig.user(0).await.unwrap();
    assert_eq!(
        user.get::<_, Option<String>>("a").await.unwrap().as_deref(),
        Some("x")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_primary_keeps_what_it_answered_but_not_its_epoch() {
    let rig = Rig::new(1);
    booted(&rig).await;
    lead(&rig, 0, grant(1, 0)).await.unwrap();
    rig.until_whole(0).await;
    let mut user = rig.user(0).await.unwrap();
    let mut answered = 0;
    let begun = Instant::now();
    let pid = rig.pid(0).await;
    let (tell, mut told) = tokio::sync::watch::channel(0);
    // in the middle of the writes, however fast they are
    let killer = tokio::spawn(async move {
        told.wait_for(|answered| *answered > 300).await.unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        Instant::now()
    });
    while user
        .set::<_, _, ()>(format!("k{answered}"), "x".repeat(200))
        .await
        .is_ok()
    {
        answered += 1;
        tell.send_replace(answered);
        assert!(begun.elapsed() < PATIENCE);
    }
    drop(tell);
    let killed = killer.await.unwrap();
    let seen = rig
        .until(0, "it is back", |seen| {
            seen.reachable && seen.starts == 2 && !seen.loading
        })
        .await;
    println!(
        "{answered} writes answered, back {:?} after the kill",
        killed.elapsed()
    );
    assert!(
        answered > 100 && seen.keys >= answered,
        "{answered} answered, {} kept",
        seen.keys
    );
    assert!(seen.aof_intact && seen.was_primary);
    assert_eq!(seen.grant(), pb::RedisGrant::Parked);
    assert_eq!(
        reason(&lead(&rig, 0, grant(1, 0)).await.unwrap_err()),
        "RESTARTED"
    );
    lead(&rig, 0, grant(2, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_catches_up_and_hands_over_in_milliseconds() {
    let rig = Rig::new(3);
    let granted = group(&rig, 1).await;
    confirm(&rig, 0, "a").await;
    let begun = Instant::now();
    let paused = pause(&rig, 0, 1, 10).await;
    assert!(paused.writes_paused);
    let awaited = pb::AwaitOffsetRequest {
        replid: granted.replid.clone(),
        offset: paused.offset,
        timeout: None,
    };
    // it waits for some seconds only
    let caught_up = loop {
        let seen = answer(async || rig.member(1).await_offset(awaited.clone()).await).await;
        let seen = complete(&rig, 1, seen.unwrap()).await;
        if seen.offset >= paused.offset {
            break seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?}");
    };
    let fenced = promise(&rig, 0, 2).await;
    assert_eq!(
        (fenced.offset, fenced.standing()),
        (caught_up.offset, pb::Standing::Continuous)
    );
    let request = pb::GrantPrimaryRequest {
        replid: fenced.replid,
        offset: fenced.offset,
        ..grant(2, 1)
    };
    let granted = lead(&rig, 1, admitting(&rig, request).await).await.unwrap();
    follow(&rig, 0, 2, 1, &granted.replid).await.unwrap();
    follow(&rig, 2, 2, 1, &granted.replid).await.unwrap();
    println!("switched over in {:?}", begun.elapsed());
    rig.until(0, "it follows", |seen| {
        seen.link_up && seen.standing() == pb::Standing::Synced
    })
    .await;
    rig.until(1, "a replica is online", |seen| {
        seen.replicas
            .iter()
            .any(|replica| replica.state == "online")
    })
    .await;
    confirm(&rig, 1, "b").await;
    let resume = pb::ResumeWritesRequest { epoch: 1 };
    let stale = answer(async || rig.member(0).resume_writes(resume).await).await;
    assert_eq!(reason(&stale.unwrap_err()), "STALE_EPOCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_pause_refuses_and_resuming_undoes_it() {
    let rig = Rig::new(2);
    group(&rig, 1).await;
    pause(&rig, 0, 1, 1).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let refused = confirmed(&rig, 0, "a").await.unwrap_err();
    assert_eq!(refused.code(), Some("NOREPLICAS"));
    let resume = pb::ResumeWritesRequest { epoch: 1 };
    let seen = answer(async || rig.member(0).resume_writes(resume).await)
        .await
        .unwrap();
    assert!(!seen.writes_paused && seen.min_replicas_to_write == 1);
    confirm(&rig, 0, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn remembers_promises_across_restarts_of_the_unit() {
    let mut rig = Rig::new(2);
    let granted = group(&rig, 1).await;
    confirm(&rig, 0, "a").await;
    let until = Instant::now() + PATIENCE;
    loop {
        // once a second it is noted where the server is
        let noted = Position::read(&rig.units[1].config.data);
        if noted.replid == granted.replid && noted.offset > 0 {
            break;
        }
        assert!(Instant::now() < until, "{noted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    promise(&rig, 1, 5).await;
    rig.stop(1).await;
    rig.start(1);
    let back = |seen: &pb::RedisMember| seen.reachable && !seen.loading;
    let seen = rig.until(1, "it is back", back).await;
    assert_eq!(
        (seen.promised_epoch, seen.grant(), seen.grant_epoch),
        (5, pb::RedisGrant::Parked, 1)
    );
    assert_eq!(seen.standing(), pb::Standing::Interrupted);
    assert_eq!(seen.keys, 1, "a clean shutdown keeps the data");
    assert_eq!(
        (seen.recorded_replid.as_str(), seen.recorded_offset > 0),
        (granted.replid.as_str(), true)
    );
    assert_eq!(
        reason(&follow(&rig, 1, 4, 0, &granted.replid).await.unwrap_err()),
        "STALE_EPOCH"
    );
    // an interrupted replica is synchronized again only after it has caught up
    follow(&rig, 1, 5, 0, &granted.replid).await.unwrap();
    rig.until(1, "it has synchronized", |seen| {
        seen.standing() == pb::Standing::Synced
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_and_starts_the_server_when_asked_to() {
    let rig = Rig::new(1);
    booted(&rig).await;
    let stop = pb::StopProcessRequest::default();
    let stopped = answer(async || rig.unit(0).stop_process(stop).await)
        .await
        .unwrap();
    assert_eq!(
        (stopped.process(), stopped.pid, stopped.ready),
        (pb::ProcessState::Stopped, 0, false)
    );
    // a member whose server is down is fenced
    let request = pb::PromiseEpochRequest { epoch: 3 };
    let seen = answer(async || rig.member(0).promise_epoch(request).await)
        .await
        .unwrap();
    assert_eq!(
        (seen.reachable, seen.promised_epoch, seen.grant()),
        (false, 3, pb::RedisGrant::Parked)
    );
    answer(async || rig.unit(0).start_process(pb::StartProcessRequest {}).await)
        .await
        .unwrap();
    rig.until(0, "it runs again", |seen| seen.reachable).await;
    let render = pb::RenderConfigurationRequest {};
    let rendered = answer(async || rig.unit(0).render_configuration(render).await)
        .await
        .unwrap();
    assert!(!rendered.restart_required);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_password_opens_neither_agent_nor_replica() {
    use sha2::{Digest, Sha256};
    let rig = Rig::new(1);
    booted(&rig).await;
    let mut user = rig.user(0).await.unwrap();
    let member_id = rig
        .until(0, "it has a member id", |seen| !seen.member_id.is_empty())
        .await
        .member_id;
    let replica = format!("upm-replica-{member_id}");
    for name in ["upm-agent", "upm-replica", replica.as_str()] {
        let derived = hex::encode(Sha256::digest(format!("{name}\0{PASSWORD}").as_bytes()));
        for guess in [PASSWORD.to_owned(), derived, name.to_owned(), String::new()] {
            let refused = redis::cmd("AUTH")
                .arg(name)
                .arg(&guess)
                .query_async::<()>(&mut user)
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Some("WRONGPASS"), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_volume_takes_the_file_out_of_trust() {
    let rig = Rig::with_small_volumes(1, 24);
    booted(&rig).await;
    lead(&rig, 0, grant(1, 0)).await.unwrap();
    rig.until_whole(0).await;
    let mut user = rig.user(0).await.unwrap();
    let begun = Instant::now();
    let mut answered = 0;
    let refused = loop {
        // the batch that no longer fits is answered all the same
        match user
            .set::<_, _, ()>(format!("k{answered}"), "x".repeat(50_000))
            .await
        {
            Ok(()) => answered += 1,
            Err(error) => break error,
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    assert_eq!(refused.code(), Some("MISCONF"));
    // at once: no look at the server has noticed yet
    rig.signal(0, Signal::SIGKILL).await;
    let seen = rig
        .until(0, "it is back", |seen| {
            seen.reachable && seen.starts >= 2 && !seen.loading
        })
        .await;
    println!("{answered} answered, {} kept", seen.keys);
    assert!(!seen.aof_intact, "{answered} answered, {} kept", seen.keys);
    assert!(seen.was_primary);
    // the record can still be written: the member can be fenced
    assert_eq!(promise(&rig, 0, 2).await.promised_epoch, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_replica_is_waited_for_and_vouches_on() {
    let rig = Rig::new(2);
    group(&rig, 1).await;
    confirm(&rig, 0, "k").await;
    rig.signal(1, Signal::SIGSTOP).await;
    let pid = rig.pid(1).await;
    let slow = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    });
    let seen = promise(&rig, 1, 2).await;
    slow.await.unwrap();
    assert_eq!((seen.starts, seen.grant()), (1, pb::RedisGrant::Parked));
    let seen = rig
        .until(1, "it vouches", |seen| {
            seen.reachable && seen.promised_epoch == 2
        })
        .await;
    assert_eq!(seen.standing(), pb::Standing::Synced);
}

#[tokio::test(flavor = "multi_thread")]
async fn second_unit_on_a_volume_waits_for_the_first() {
    let mut rig = Rig::new(1);
    booted(&rig).await;
    let config = crate::config::UnitConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        run: rig.units[0].config.run.join("second"),
        ..rig.units[0].config.clone()
    };
    let end = tokio_util::sync::CancellationToken::new();
    let second = tokio::spawn(crate::run::run(
        config,
        std::collections::BTreeMap::new(),
        end.clone(),
    ));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!second.is_finished());
    let first = rig.pid(0).await;
    assert!(
        std::fs::read_dir("/proc").unwrap().flatten().all(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let at = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            at != rig.units[0].config.data || name == first.to_string()
        }),
        "two servers use one volume"
    );
    end.cancel();
    second.await.unwrap().unwrap();
    rig.stop(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn member_that_is_not_admitted_cannot_acknowledge() {
    let rig = Rig::new(3);
    let granted = group(&rig, 1).await;
    confirm(&rig, 0, "k").await;
    let all = admitting(&rig, grant(1, 1)).await;
    let only_first = pb::GrantPrimaryRequest {
        admitted_member_ids: vec![all.admitted_member_ids[1].clone()],
        ..all.clone()
    };
    let seen = lead(&rig, 0, only_first.clone()).await.unwrap();
    assert_eq!(seen.admitted_member_ids, only_first.admitted_member_ids);
    // at once, and it does not come back
    let seen = rig.until(2, "its link is down", |seen| !seen.link_up).await;
    assert_eq!(seen.starts, 1);
    follow(&rig, 2, 1, 0, &granted.replid).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    rig.until(0, "one replica is left", |seen| seen.replicas.len() == 1)
        .await;
    confirm(&rig, 0, "l").await;
    lead(&rig, 0, all).await.unwrap();
    rig.until(2, "it follows again", |seen| seen.link_up).await;
}

#[tokio::test]
async fn server_that_refuses_its_configuration_says_why() {
    let mut rig = Rig::new(1);
    booted(&rig).await;
    rig.stop(0).await;
    let config = &mut rig.units[0].config;
    // a template of its own: the package's is the one that ships
    let text = std::fs::read_to_string(&config.config.template).unwrap();
    config.config.template = config.data.with_file_name("config.tmpl");
    std::fs::write(&config.config.template, format!("{text}\nhz ten\n")).unwrap();
    rig.start(0);
    let until = Instant::now() + PATIENCE;
    let said = loop {
        let state = rig.unit(0).get_unit(pb::GetUnitRequest {}).await;
        match state.map(|state| state.into_inner().reason) {
            Ok(reason) if reason.contains("hz") => break reason,
            other => assert!(Instant::now() < until, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(said.contains(">>> 'hz ten'"), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

#[tokio::test]
async fn changed_secret_is_taken_by_servers_that_run() {
    let rig = Rig::new(2);
    group(&rig, 1).await;
    let change = |index: usize| {
        let secrets = &rig.units[index].config.secrets;
        std::fs::write(secrets.join("default"), "another one\n").unwrap();
        std::fs::write(secrets.join("upm-replica"), "another too\n").unwrap();
    };
    // kubelet brings it to one pod after the other
    change(0);
    let until = Instant::now() + PATIENCE;
    while rig.user_with(0, "another one").await.is_err() {
        assert!(Instant::now() < until, "the new password is not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        rig.user(0).await.is_err(),
        "the old password is still taken"
    );
    // with the old secret, and then with the new one, the replica finds its primary
    for new in [false, true] {
        if new {
            change(1);
            while rig.user_with(1, "another one").await.is_err() {
                assert!(Instant::now() < until, "the new password is not taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let primary = rig
            .member(0)
            .observe_member(pb::ObserveMemberRequest {})
            .await;
        let replid = primary.unwrap().into_inner().replid;
        rig.signal(1, Signal::SIGKILL).await;
        rig.until(1, "it is back", |seen| seen.reachable && !seen.link_up)
            .await;
        follow(&rig, 1, 1, 0, &replid).await.unwrap();
        rig.until(1, "it follows again", |seen| seen.link_up).await;
    }
}
