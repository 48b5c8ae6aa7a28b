//! Against real servers.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use redis::AsyncCommands;
use upm_proto::unit::v1 as pb;

use crate::rig::{PASSWORD, Rig};

fn grant(epoch: i64, min_replicas_to_write: i32) -> pb::GrantPrimaryRequest {
    pb::GrantPrimaryRequest {
        epoch,
        min_replicas_to_write,
        ..pb::GrantPrimaryRequest::default()
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

/// Grants unit 0 the epoch and lets the others follow.
async fn group(rig: &Rig, epoch: i64) -> pb::RedisMember {
    booted(rig).await;
    let granted = rig
        .member(0)
        .grant_primary(grant(epoch, 1))
        .await
        .unwrap()
        .into_inner();
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
    rig.member(index)
        .follow_primary(request)
        .await
        .map(tonic::Response::into_inner)
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
    assert_eq!(
        crate::ready::ask(&rig.units[0].config.run).unwrap(),
        "ready"
    );
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
    assert!(confirmed(&rig, 0, "a").await.unwrap() >= 1);
    let promise = pb::PromiseEpochRequest { epoch: 2 };
    let mut one = rig.member(1);
    let mut two = rig.member(2);
    let (one, two) = tokio::join!(one.promise_epoch(promise), two.promise_epoch(promise));
    let (one, two) = (one.unwrap().into_inner(), two.unwrap().into_inner());
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
    let granted = rig
        .member(top)
        .grant_primary(request)
        .await
        .unwrap()
        .into_inner();
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
    assert!(confirmed(&rig, top, "c").await.unwrap() >= 1);
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
    confirmed(&rig, 0, "a").await.unwrap();
    rig.signal(0, Signal::SIGSTOP).await;
    let begun = Instant::now();
    rig.until(0, "it counts as unresponsive", |seen| {
        !seen.reachable && seen.process() == pb::ProcessState::Unresponsive
    })
    .await;
    let promised = rig
        .member(0)
        .promise_epoch(pb::PromiseEpochRequest { epoch: 2 })
        .await
        .unwrap()
        .into_inner();
    println!(
        "frozen, noticed, ended and back after {:?}",
        begun.elapsed()
    );
    let seen = if promised.reachable {
        promised
    } else {
        rig.until(0, "it is back", |seen| seen.reachable).await
    };
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
        reason(&rig.member(0).grant_primary(grant(1, 1)).await.unwrap_err()),
        "STALE_EPOCH"
    );
    assert!(rig.member(0).grant_primary(grant(2, 0)).await.is_ok());
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
    rig.member(0).grant_primary(grant(1, 0)).await.unwrap();
    rig.until(0, "the file is current", |_| true).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut user = rig.user(0).await.unwrap();
    let mut answered = 0;
    let begun = Instant::now();
    let pid = rig.pid(0).await;
    let killer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        Instant::now()
    });
    while user
        .set::<_, _, ()>(format!("k{answered}"), "x".repeat(200))
        .await
        .is_ok()
    {
        answered += 1;
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
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
        reason(&rig.member(0).grant_primary(grant(1, 0)).await.unwrap_err()),
        "RESTARTED"
    );
    rig.member(0).grant_primary(grant(2, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_catches_up_and_hands_over_in_milliseconds() {
    let rig = Rig::new(3);
    let granted = group(&rig, 1).await;
    confirmed(&rig, 0, "a").await.unwrap();
    let begun = Instant::now();
    let pause = pb::PauseWritesRequest {
        epoch: 1,
        pause: Some(prost_types::Duration {
            seconds: 10,
            nanos: 0,
        }),
    };
    let paused = rig
        .member(0)
        .pause_writes(pause)
        .await
        .unwrap()
        .into_inner();
    assert!(paused.writes_paused);
    let awaited = pb::AwaitOffsetRequest {
        replid: granted.replid.clone(),
        offset: paused.offset,
        timeout: None,
    };
    let caught_up = rig
        .member(1)
        .await_offset(awaited)
        .await
        .unwrap()
        .into_inner();
    assert!(caught_up.offset >= paused.offset);
    let fenced = rig
        .member(0)
        .promise_epoch(pb::PromiseEpochRequest { epoch: 2 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (fenced.offset, fenced.standing()),
        (caught_up.offset, pb::Standing::Continuous)
    );
    let request = pb::GrantPrimaryRequest {
        replid: fenced.replid,
        offset: fenced.offset,
        ..grant(2, 1)
    };
    let granted = rig
        .member(1)
        .grant_primary(request)
        .await
        .unwrap()
        .into_inner();
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
    assert!(confirmed(&rig, 1, "b").await.unwrap() >= 1);
    assert_eq!(
        reason(
            &rig.member(0)
                .resume_writes(pb::ResumeWritesRequest { epoch: 1 })
                .await
                .unwrap_err()
        ),
        "STALE_EPOCH"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lapsed_pause_refuses_and_resuming_undoes_it() {
    let rig = Rig::new(2);
    group(&rig, 1).await;
    let pause = pb::PauseWritesRequest {
        epoch: 1,
        pause: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
    };
    rig.member(0).pause_writes(pause).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let refused = confirmed(&rig, 0, "a").await.unwrap_err();
    assert_eq!(refused.code(), Some("NOREPLICAS"));
    let seen = rig
        .member(0)
        .resume_writes(pb::ResumeWritesRequest { epoch: 1 })
        .await
        .unwrap()
        .into_inner();
    assert!(!seen.writes_paused && seen.min_replicas_to_write == 1);
    assert!(confirmed(&rig, 0, "a").await.unwrap() >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn remembers_promises_across_restarts_of_the_unit() {
    let mut rig = Rig::new(2);
    let granted = group(&rig, 1).await;
    confirmed(&rig, 0, "a").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    rig.member(1)
        .promise_epoch(pb::PromiseEpochRequest { epoch: 5 })
        .await
        .unwrap();
    rig.stop(1).await;
    rig.start(1);
    let seen = rig.until(1, "it is back", |seen| seen.reachable).await;
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
    let stopped = rig
        .unit(0)
        .stop_process(pb::StopProcessRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (stopped.process(), stopped.pid, stopped.ready),
        (pb::ProcessState::Stopped, 0, false)
    );
    // a member whose server is down is fenced
    let seen = rig
        .member(0)
        .promise_epoch(pb::PromiseEpochRequest { epoch: 3 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (seen.reachable, seen.promised_epoch, seen.grant()),
        (false, 3, pb::RedisGrant::Parked)
    );
    rig.unit(0)
        .start_process(pb::StartProcessRequest {})
        .await
        .unwrap();
    rig.until(0, "it runs again", |seen| seen.reachable).await;
    let rendered = rig
        .unit(0)
        .render_configuration(pb::RenderConfigurationRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(!rendered.restart_required);
}
