//! What is known of many claims, in memory: as the cache packs it, and as whole texts, which is how a cache would keep
//! it without further thought. This process' own memory grows by the one and then by the other.

use dbclaim::api::KIND;
use dbclaim::api::protocol::{
    Applied, FORMAT, Identity, Initialized, MemberPhase, Report, TlsReport, WriteTest,
};
use dbclaim::claim::quantity::Bytes;
use dbclaim::claim::{ClaimId, FIRST_MEMBER};
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

/// What one claim has of its own: identities and hashes, none like another, the same in every run.
struct Own {
    number: u64,
    id: ClaimId,
}

impl Own {
    fn new(number: usize) -> Self {
        let mut own = Self {
            number: number as u64,
            id: ClaimId {
                namespace: "many".into(),
                name: format!("c{number:05}"),
                uid: String::new(),
            },
        };
        own.id.uid = own.uid("claim");
        own
    }

    /// 64 bits that look random (FNV-1a, finished as SplitMix64 does).
    fn bits(&self, what: &str) -> u64 {
        let begin = 0xcbf2_9ce4_8422_2325 ^ self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let all = what.bytes().fold(begin, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mixed = (all ^ (all >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn hash(&self, what: &str) -> String {
        format!("{:016x}", self.bits(what))
    }

    fn fingerprint(&self, what: &str) -> String {
        (0..4).map(|part| self.hash(&format!("{what} {part}"))).collect()
    }

    fn uid(&self, what: &str) -> String {
        let text = self.hash(what) + &self.hash(&format!("{what} again"));
        format!(
            "{}-{}-4{}-a{}-{}",
            &text[..8],
            &text[8..12],
            &text[13..16],
            &text[17..20],
            &text[20..]
        )
    }

    /// As names are made up for Pods and their like.
    fn suffix(&self, what: &str, length: usize) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let letter = |it| LETTERS[usize::from(it) % LETTERS.len()] as char;
        self.hash(what).bytes().take(length).map(letter).collect()
    }

    fn revision(&self) -> String {
        format!("{}-{}", self.id.member(FIRST_MEMBER), self.suffix("revision", 10))
    }

    fn initialized(&self) -> Initialized {
        let bits = self.bits("initialized");
        Initialized {
            at: format!(
                "2026-01-01T{:02}:{:02}:{:02}Z",
                bits % 24,
                (bits >> 8) % 60,
                (bits >> 16) % 60
            ),
            system_identifier: (7_300_000_000_000_000_000 + (bits >> 10)).to_string(),
        }
    }
}

/// The objects of a claim that is Ready, without its Secrets, of which nothing is kept.
fn of_claim(number: usize) -> Vec<Seen> {
    let own = Own::new(number);
    let slots = Slot::ALL.into_iter().filter(|slot| slot.kind() != Kind::Secret);
    let mut objects: Vec<Seen> = slots.map(|slot| ours(&own, slot)).collect();
    let pod = Seen {
        controller: Some((
            "StatefulSet".into(),
            own.id.member(FIRST_MEMBER),
            own.uid("StatefulSet"),
        )),
        applied: None,
        fingerprint: 1,
        ..seen(&own, Kind::Pod, own.id.pod(FIRST_MEMBER), "Pod", pod(&own))
    };
    objects.push(pod);
    for (service, slot) in [
        (own.id.base(), "Service"),
        (own.id.members_service(), "MembersService"),
    ] {
        let name = format!("{service}-{}", own.suffix(slot, 5));
        let detail = Detail::Endpoints {
            service: service.clone(),
            ready: true,
        };
        let what = format!("EndpointSlice of {slot}");
        objects.push(Seen {
            controller: Some(("Service".into(), service, own.uid(slot))),
            applied: None,
            fingerprint: 1,
            ..seen(&own, Kind::EndpointSlice, name, &what, detail)
        });
    }
    objects
}

/// An object, as those are that the claim controls.
fn seen(own: &Own, kind: Kind, name: String, what: &str, detail: Detail) -> Seen {
    Seen {
        kind,
        namespace: own.id.namespace.clone(),
        name,
        uid: own.uid(what),
        resource_version: (100_000 + own.bits(what) % 100_000).to_string(),
        claim: Some(own.id.name.clone()),
        labelled: true,
        controller: Some((KIND.into(), own.id.name.clone(), own.id.uid.clone())),
        deleting: false,
        applied: Some(own.hash(what)),
        team: Some(format!("team-{}", own.number % 20)),
        fingerprint: 1,
        detail,
    }
}

fn ours(own: &Own, slot: Slot) -> Seen {
    let what = format!("{slot:?}");
    let marked = match slot {
        Slot::AdminMarker => Some(Slot::AdminSecret),
        Slot::AppMarker => Some(Slot::AppSecret),
        _ => None,
    };
    let secret = marked.map(|it| (it.name(&own.id), own.uid(&format!("{it:?}"))));
    let detail = match (&secret, slot) {
        (Some((_, uid)), _) => Detail::Marker {
            secret_uid: uid.clone(),
        },
        (_, Slot::StatefulSet) => workload(own),
        (_, Slot::Volume) => volume(own),
        (_, Slot::Report) => report(own),
        _ => Detail::None,
    };
    let seen = seen(own, slot.kind(), slot.name(&own.id), &what, detail);
    Seen {
        controller: match secret {
            Some((name, uid)) => Some(("Secret".into(), name, uid)),
            // It stays when the claim goes.
            None if slot == Slot::Volume => None,
            None => seen.controller,
        },
        // The same for all claims.
        fingerprint: Own::new(0).bits(&what),
        ..seen
    }
}

fn workload(own: &Own) -> Detail {
    Detail::StatefulSet(Workload {
        restart_hash: Some(own.hash("restart")),
        asked: Some(own.hash("asked")),
        taken_up: true,
        revision: Some(own.revision()),
        stopped: false,
    })
}

fn volume(own: &Own) -> Detail {
    let size = Bytes(10 * Bytes::GIB);
    Detail::Volume(Box::new(Volume {
        identity: Some(Identity {
            v: FORMAT,
            claim: own.id.path(),
            volume_id: own.uid("identity"),
            member: FIRST_MEMBER,
            engine: "postgres".into(),
            major: "17".into(),
            database: "app".into(),
            username: "app".into(),
            initialized: Some(own.initialized()),
        }),
        bound: true,
        requested: Some(size),
        capacity: Some(size),
        storage_class: Some("standard".into()),
        growth: None,
        never_bound: false,
    }))
}

fn report(own: &Own) -> Detail {
    Detail::Report(Some(Box::new(Report {
        v: FORMAT,
        agent: "0.1.0".into(),
        pod_uid: own.uid("Pod"),
        phase: MemberPhase::Running,
        trouble: None,
        version: Some("17.5".into()),
        initialized: Some(own.initialized()),
        applied: Applied {
            config: own.hash("config"),
            credentials: 1,
            previous_until: None,
        },
        pending_restart: vec![],
        write_test: Some(WriteTest {
            ok: true,
            message: None,
        }),
        disk_percent: Some(5),
        access: None,
        password_set_back: None,
        tls: Some(TlsReport {
            certificate: own.fingerprint("certificate"),
            ca: own.fingerprint("ca"),
            verified: true,
            trouble: None,
            due: Some(own.initialized().at.replace("2026", "2027")),
        }),
    })))
}

fn pod(own: &Own) -> Detail {
    Detail::Pod(Box::new(Pod {
        ready: true,
        restart_hash: Some(own.hash("restart")),
        asked: Some(own.hash("asked")),
        revision: Some(own.revision()),
        requested_memory: Some(Bytes(2 * Bytes::GIB)),
        memory: Some(Bytes(2 * Bytes::GIB)),
        node: Some(format!("node-{}", own.number % 20)),
        ..Pod::default()
    }))
}
