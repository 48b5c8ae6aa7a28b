//! Scenarios. `SIMULATION_SEEDS` runs more of them.

use super::*;

const POWER: Faults = Faults {
    power: true,
    ..NONE
};
const VOLUMES: Faults = Faults {
    volumes: Volumes::Change,
    ..NONE
};
const ROLLBACK: Faults = Faults {
    volumes: Volumes::RecordRollsBack,
    ..NONE
};
const NONE: Faults = Faults {
    power: false,
    volumes: Volumes::Stay,
    leaves: false,
    blurred: false,
    bounded: false,
};

/// Returns whether nobody could be elected safely in the end.
fn run(seed: u64, size: usize, faults: Faults, count: usize) -> bool {
    let mut cluster = Cluster::new(seed, size, faults);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        for _ in 0..60 {
            cluster.step();
        }
        let set_up = cluster.healthy();
        assert!(set_up.is_ok(), "set up: {set_up:?}");
        for _ in 0..count {
            cluster.fault();
            for _ in 0..cluster.dice.below(40) {
                cluster.step();
            }
        }
        cluster.note(|| "all faults are over".to_owned());
        cluster.cut.clear();
        cluster.unwritable = 0;
        for node in cluster.group.members.values_mut() {
            node.isolated = false;
        }
        for index in 0..size {
            cluster.servers[index].frozen = false;
            if !cluster.servers[index].up {
                cluster.servers[index].boot();
            }
        }
        // without its lease a controller ends
        cluster.controllers.truncate(1);
        cluster.controllers[0].blind.clear();
        for _ in 0..3000 {
            if cluster.cube.is_done() {
                break;
            }
            cluster.step();
        }
        assert!(
            cluster.cube.is_done(),
            "somebody who asked may never leave: {:?}",
            cluster.controllers[0].message
        );
        for _ in 0..400 {
            cluster.step();
        }
        // when machines lost power together with what only they had, refusing is the right answer
        let may_refuse = faults.power || faults.volumes == Volumes::Change;
        let may_refuse = may_refuse && !faults.bounded;
        let refused = may_refuse && cluster.controllers[0].phase == Phase::Refused;
        let healthy = cluster.healthy();
        assert!(refused || healthy.is_ok(), "healed: {healthy:?}");
        refused
    }));
    let error = match outcome {
        Ok(refused) => return refused,
        Err(error) => error,
    };
    {
        for line in cluster.trace.iter().rev().take(60).rev() {
            println!("{line}");
        }
        for server in &mut cluster.servers {
            server.log.drain(..server.log.len().saturating_sub(12));
            server.file.drain(..server.file.len().saturating_sub(12));
            println!("{server:?}");
        }
        println!(
            "state {:?}\nseed {seed}, {size} members, {faults:?}",
            cluster.state
        );
        std::panic::resume_unwind(error);
    }
}

fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(60)
}

#[test]
fn loses_nothing_and_heals_with_three_members() {
    for seed in 0..seeds() {
        run(seed, 3, NONE, 40);
    }
}

#[test]
fn loses_nothing_and_heals_with_two_and_with_five_members() {
    for seed in 0..seeds() / 2 {
        run(1_000_000 + seed, 2, NONE, 30);
        run(2_000_000 + seed, 5, NONE, 40);
    }
}

#[test]
fn loses_nothing_when_machines_lose_power() {
    for seed in 0..seeds() {
        run(3_000_000 + seed, 3, POWER, 30);
    }
}

#[test]
fn loses_nothing_when_volumes_are_replaced_or_exchanged() {
    let mut refused = 0;
    for seed in 0..seeds() {
        refused += u64::from(run(4_000_000 + seed, 3, VOLUMES, 30));
        refused += u64::from(run(5_000_000 + seed, 5, VOLUMES, 30));
    }
    println!("{refused} of {} groups refused in the end", 2 * seeds());
}

#[test]
fn loses_nothing_and_heals_when_the_record_rolls_back() {
    for seed in 0..seeds() {
        run(6_000_000 + seed, 3, ROLLBACK, 30);
    }
}

#[test]
fn loses_nothing_and_heals_while_members_leave_and_return() {
    let leaves = Faults {
        leaves: true,
        ..NONE
    };
    for seed in 0..seeds() {
        run(7_000_000 + seed, 3, leaves, 30);
        run(8_000_000 + seed, 2, leaves, 20);
    }
}

#[test]
fn loses_nothing_when_views_are_torn_and_the_record_away() {
    let blurred = Faults {
        leaves: true,
        blurred: true,
        ..NONE
    };
    for seed in 0..seeds() {
        run(9_000_000 + seed, 3, blurred, 40);
    }
}

#[test]
fn bounded_loss_always_ends_with_somebody_who_leads() {
    for seed in 0..seeds() {
        let bounded = Faults {
            bounded: true,
            power: seed % 2 == 0,
            volumes: Volumes::Change,
            ..NONE
        };
        run(10_000_000 + seed, 3, bounded, 30);
    }
}
