//! `docs/dependencies.md` says of every dependency what it means for users, in the version that is used.

/// The dependencies of the library: name and version, as `Cargo.toml` has them.
fn dependencies() -> Vec<(String, String)> {
    let mut found = Vec::new();
    // Of a section for one dependency, as Cargo writes it when it packages: its name.
    let (mut in_a_list, mut of_one) = (false, None);
    for line in include_str!("../../Cargo.toml").lines() {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let is_ours = !section.contains("dev-") && !section.contains("cfg(loom)");
            in_a_list = is_ours && section.ends_with("dependencies");
            of_one = section.split_once("dependencies.").filter(|_| is_ours).map(|(_, name)| name);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let name = if in_a_list { Some(key) } else { of_one.filter(|_| key == "version") };
            let version = value.split('"').nth(1);
            if let (Some(name), Some(version)) = (name, version) {
                found.push((name.to_string(), version.to_string()));
            }
        }
    }
    found
}

#[test]
fn every_dependency_stands_in_the_list_with_its_version() {
    let list = include_str!("../../docs/dependencies.md");
    let dependencies = dependencies();
    assert!(dependencies.len() >= 8, "{dependencies:?}");
    for (name, version) in dependencies {
        let is_public = !["thiserror", "rustix"].contains(&&*name);
        let entry = if is_public { format!("| `{name}` {version} |") } else { format!("`{name}`") };
        assert!(list.contains(&entry), "{entry} is not in docs/dependencies.md");
    }
}
