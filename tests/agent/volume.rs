//! The guard at work: what is not ours, or should be there and is not, is left exactly as it is.

use std::fs;

use crate::engines::Prerequisites;
use crate::member::Member;

pub(crate) const TESTS: &[(&str, crate::Real)] = &[
    (
        "volume::an_empty_volume_where_data_is_expected_stays_empty",
        an_empty_volume_stays_empty,
    ),
    ("volume::a_repaired_volume_is_served", a_repaired_volume_is_served),
    (
        "volume::data_of_another_system_is_not_started",
        data_of_another_system_is_not_started,
    ),
    (
        "volume::files_of_somebody_are_not_touched",
        files_of_somebody_are_not_touched,
    ),
    ("volume::another_version_is_named", another_version_is_named),
    (
        "volume::a_crash_before_the_report_is_served",
        a_crash_before_the_report_is_served,
    ),
    (
        "volume::two_containers_never_use_one_volume",
        two_containers_never_use_one_volume,
    ),
    (
        "volume::a_loosened_data_directory_is_closed_again",
        a_loosened_data_directory_is_closed_again,
    ),
];

const PASSWORD: &str = "first p@ss";

fn an_empty_volume_stays_empty(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    fs::create_dir(member.volume().join("lost+found")).unwrap();
    member.write_config(
        |config| config["volumes"]["1"]["systemIdentifier"] = "7001".into(),
        "",
    );
    member.start();
    member.wait_readyz(503, "DataMissing");
    member.wait_readyz(503, "7001");
    assert!(!member.data().exists() && !member.volume().join("identity.json").exists());
    // Allowed to initialise, it does so without a restart.
    member.write_config(
        |config| config["volumes"]["1"]["systemIdentifier"] = serde_json::Value::Null,
        "",
    );
    member.wait_ready();
}

fn a_repaired_volume_is_served(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    member
        .sql(PASSWORD, "CREATE TABLE item AS SELECT 1 AS id")
        .unwrap();
    member.stop();
    let system = member.identity()["initialized"]["systemIdentifier"].clone();
    member.write_config(|config| config["volumes"]["1"]["systemIdentifier"] = system, "");
    let away = member.root.join("away");
    fs::rename(member.data(), &away).unwrap();
    member.start();
    member.wait_readyz(503, "DataMissing");
    assert!(!member.data().exists());
    fs::rename(&away, member.data()).unwrap();
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
}

fn data_of_another_system_is_not_started(needs: &Prerequisites) {
    let (mut mine, mut other) = (Member::started(needs), Member::started(needs));
    mine.stop();
    other.stop();
    let system = mine.identity()["initialized"]["systemIdentifier"]
        .as_str()
        .unwrap()
        .to_owned();
    let theirs = other.identity()["initialized"]["systemIdentifier"]
        .as_str()
        .unwrap()
        .to_owned();
    fs::rename(mine.data(), mine.root.join("away")).unwrap();
    fs::rename(other.data(), mine.data()).unwrap();
    for known in [serde_json::Value::Null, system.clone().into()] {
        mine.write_config(|config| config["volumes"]["1"]["systemIdentifier"] = known, "");
        mine.start();
        mine.wait_readyz(503, "DataForeign");
        let (_, words) = mine.get("/readyz").unwrap();
        assert!(words.contains(&system) && words.contains(&theirs), "{words}");
        let server = |(_, command): &(_, String)| command.contains(mine.data().to_str().unwrap());
        assert!(!mine.processes().iter().any(server), "it was started");
        mine.stop();
    }
}

fn files_of_somebody_are_not_touched(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    let file = member.volume().join("pgdata/PG_VERSION");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, "15").unwrap();
    member.start();
    member.wait_readyz(503, "DataForeign");
    member.wait_readyz(503, "pgdata");
    assert_eq!(fs::read_to_string(&file).unwrap(), "15");
    assert!(!member.volume().join("identity.json").exists());
}

fn another_version_is_named(needs: &Prerequisites) {
    let mut member = Member::new(needs);
    let dialect = needs.engine.dialect();
    let (name, older) = (dialect.name, dialect.older);
    let identity = format!(
        r#"{{"v":1,"claim":"shop/orders","volumeId":"volume-7","member":1,"engine":"{name}","major":"{older}",
        "database":"orders","username":"shopkeeper","initialized":{{"at":"x","systemIdentifier":"7001"}}}}"#
    );
    fs::write(member.volume().join("identity.json"), identity).unwrap();
    member.start();
    member.wait_readyz(503, "DataOtherVersion");
    member.wait_readyz(
        503,
        &format!("holds {name} {older}, but {name} {} is asked for", needs.major),
    );
}

fn a_crash_before_the_report_is_served(needs: &Prerequisites) {
    let mut member = Member::started(needs);
    member
        .sql(PASSWORD, "CREATE TABLE item AS SELECT 1 AS id")
        .unwrap();
    member.kill_everything();
    assert!(member.identity()["initialized"].is_object());
    // The operator still knows nothing: no system identifier in the configuration.
    member.start();
    member.wait_ready();
    assert_eq!(
        member.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
}

fn two_containers_never_use_one_volume(needs: &Prerequisites) {
    let mut first = Member::started(needs);
    first
        .sql(PASSWORD, "CREATE TABLE item AS SELECT 1 AS id")
        .unwrap();
    let mut second = Member::new(needs);
    fs::remove_dir(second.volume()).unwrap();
    std::os::unix::fs::symlink(first.volume(), second.volume()).unwrap();
    second.start();
    second.wait_readyz(503, "VolumeInUse");
    // Its supervisor's death does not free the volume: the server itself holds it.
    rustix::process::kill_process(first.supervisor(), rustix::process::Signal::KILL).unwrap();
    first.wait_log("adopted");
    second.wait_readyz(503, "VolumeInUse");
    assert_eq!(
        first.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
    first.stop();
    second.wait_ready();
    assert_eq!(
        second.sql(PASSWORD, "SELECT count(*) FROM item").as_deref(),
        Ok("1")
    );
    // Before the first one's directory goes, so that no server outlives its data.
    second.stop();
}

fn a_loosened_data_directory_is_closed_again(needs: &Prerequisites) {
    use std::os::unix::fs::PermissionsExt;
    let mut member = Member::started(needs);
    member.stop();
    fs::set_permissions(member.data(), fs::Permissions::from_mode(0o2775)).unwrap();
    member.start();
    member.wait_ready();
    assert_eq!(
        fs::metadata(member.data()).unwrap().permissions().mode() & 0o7777,
        needs.engine.dialect().mode
    );
}
