//! What is known of many claims, in memory: as the cache packs it, and as whole texts, which is how a cache would keep
//! it without further thought. This process' own memory grows by the one and then by the other.

use dbclaim::api::KIND;
use dbclaim::api::protocol::{
    Applied, FORMAT, Identity, Initialized, MemberPhase, Report, TlsReport, WriteTest,
};
use dbclaim::observe::cache::Cache;
use dbclaim::observe::reduce::Seen;
use dbclaim::plan::observed::{Detail, Pod, Volume, Workload};
use dbclaim::render::{Kind, Slot};

use crate::process;
use crate::table::{Table, megabytes};

/// Both, for so many claims.
pub fn known(claims: usize, table: &mut Table) -> anyhow::Result<()> {
    let all = || (0..claims).flat_map(of_claim);
    let count = all().count();
    let own = || Ok::<_, anyhow::Error>(process::memory(std::process::id())?.anon);
    let begin = own()?;
    let cache = Cache::default();
    all().for_each(|seen| drop(cache.upsert(seen)));
    let packed = own()?.saturating_sub(begin);
    let begin = own()?;
    let whole: Vec<Seen> = all().collect();
    let texts = own()?.saturating_sub(begin);
    table.row(
        format!("what is known of {claims} claims ({count} objects): packed, as whole texts"),
        format!(
            "{}, {} ({:.2})",
            megabytes(packed),
            megabytes(texts),
            packed as f64 / texts as f64
        ),
        "",
        "",
    );
    drop((cache, whole));
    Ok(())
}

/// The objects of a claim that is Ready, without its Secrets, of which nothing is kept.
fn of_claim(number: usize) -> Vec<Seen> {
    let claim = format!("c{number:05}");
    let uid = |part: usize| format!("6f1b6c6e-0a3f-4a52-9d7e-{:012x}", number * 100 + part);
    let slots = Slot::ALL.into_iter().filter(|slot| slot.kind() != Kind::Secret);
    let ours = slots.map(|slot| (slot.kind(), detail(slot, &uid(90))));
    let endpoints = || Detail::Endpoints {
        service: format!("{claim}-db-members"),
        ready: true,
    };
    let others = [
        (Kind::Pod, Detail::Pod(Box::new(pod(&claim)))),
        (Kind::EndpointSlice, endpoints()),
        (Kind::EndpointSlice, endpoints()),
    ];
    let objects = ours.chain(others).enumerate();
    let seen = objects.map(|(part, (kind, detail))| Seen {
        kind,
        namespace: "many".into(),
        name: format!("{claim}-db-{part}"),
        uid: uid(part),
        resource_version: (100_000 + number * 20 + part).to_string(),
        claim: Some(claim.clone()),
        labelled: true,
        controller: Some((KIND.into(), claim.clone(), uid(99))),
        deleting: false,
        applied: Some(format!("{:016x}", number * 100 + part)),
        team: Some("checkout".into()),
        fingerprint: part as u64,
        detail,
    });
    seen.collect()
}

fn initialized() -> Initialized {
    Initialized {
        at: "2026-01-01T00:00:00Z".into(),
        system_identifier: "7312345678901234567".into(),
    }
}

fn detail(slot: Slot, uid: &str) -> Detail {
    match slot {
        Slot::StatefulSet => Detail::StatefulSet(Workload {
            restart_hash: Some("0123456789abcdef".into()),
            asked: Some("0123456789abcdef".into()),
            taken_up: true,
            revision: Some("c00001-db-1-5c9b7d8f6d".into()),
            stopped: false,
        }),
        Slot::Volume => Detail::Volume(Box::new(Volume {
            identity: Some(Identity {
                v: FORMAT,
                claim: "many/c00001".into(),
                volume_id: uid.into(),
                member: 1,
                engine: "postgres".into(),
                major: "17".into(),
                database: "app".into(),
                username: "app".into(),
                initialized: Some(initialized()),
            }),
            bound: true,
            requested: None,
            capacity: None,
            storage_class: Some("standard".into()),
            growth: None,
        })),
        Slot::Report => Detail::Report(Some(Box::new(Report {
            v: FORMAT,
            agent: "0.1.0".into(),
            pod_uid: uid.into(),
            phase: MemberPhase::Running,
            trouble: None,
            version: Some("17.5".into()),
            initialized: Some(initialized()),
            applied: Applied {
                config: "0123456789abcdef".into(),
                credentials: 1,
                previous_until: None,
            },
            pending_restart: vec![],
            write_test: Some(WriteTest {
                ok: true,
                message: None,
            }),
            disk_percent: Some(5),
            tls: Some(TlsReport {
                certificate: "0123456789abcdef".repeat(4),
                ca: "0123456789abcdef".repeat(4),
                verified: true,
                trouble: None,
                due: Some("2027-01-01T00:00:00Z".into()),
            }),
        }))),
        Slot::AdminMarker | Slot::AppMarker => Detail::Marker {
            secret_uid: uid.into(),
        },
        _ => Detail::None,
    }
}

fn pod(claim: &str) -> Pod {
    Pod {
        ready: true,
        restart_hash: Some("0123456789abcdef".into()),
        asked: Some("0123456789abcdef".into()),
        revision: Some(format!("{claim}-db-1-5c9b7d8f6d")),
        node: Some("node-1".into()),
        ..Pod::default()
    }
}
