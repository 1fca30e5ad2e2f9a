//! The bill of materials: what is linked into the program, as CycloneDX 1.5.

use anyhow::{Context as _, Result, anyhow, ensure};
use cyclonedx_bom::external_models::date_time::DateTime;
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::{Bom, UrnUuid};
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency as Uses};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use cyclonedx_bom::validation::Validate as _;
use sha2::{Digest as _, Sha256};

use crate::about::NAME;
use crate::deb::hex;
use crate::dependencies::{Dependency, Id};
use crate::release::Release;

/// The document, in JSON. It is the same each time for the same release and target.
///
/// # Errors
/// The library refuses what is said of a crate.
pub(crate) fn document(dependencies: &[Dependency], release: &Release, target: &str, rustc: &str) -> Result<Vec<u8>> {
    let program = dependencies.iter().find(|dependency| dependency.name == NAME);
    let program = program.context("the program itself is not among its packages")?;
    let mut components: Vec<Component> = Vec::new();
    for dependency in dependencies.iter().filter(|dependency| dependency.name != NAME) {
        components.push(component(dependency, Classification::Library)?);
    }
    let mut library = Component::new(Classification::Library, "rust-std", rustc, Some(format!("rust-std@{rustc}")));
    library.licenses = Some(Licenses(vec![LicenseChoice::expression("MIT OR Apache-2.0")]));
    components.push(library);
    let uses = dependencies.iter().map(|dependency| Uses {
        dependency_ref: reference(&dependency.id()),
        dependencies: dependency.uses.iter().map(reference).collect(),
    });
    let metadata = Metadata {
        timestamp: Some(DateTime::try_from(release.date.to_string()).context("the date")?),
        component: Some(component(program, Classification::Application)?),
        ..Metadata::default()
    };
    let bom = Bom {
        version: 1,
        serial_number: Some(serial_number(&format!("{} {target} {}", release.version, release.date))?),
        metadata: Some(metadata),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(uses.collect())),
        ..Bom::default()
    };
    let validated = bom.validate();
    ensure!(validated.passed(), "the bill of materials is not valid: {validated:?}");
    let mut json = Vec::new();
    bom.output_as_json_v1_5(&mut json).context("cannot write the bill of materials")?;
    Ok(json)
}

fn reference((name, version): &Id) -> String {
    format!("{name}@{version}")
}

fn component(dependency: &Dependency, kind: Classification) -> Result<Component> {
    let Dependency { name, version, licence, checksum, .. } = dependency;
    let mut component = Component::new(kind, name, version, Some(reference(&dependency.id())));
    component.licenses = licence.as_ref().map(|licence| {
        // Cargo once wrote alternatives so.
        Licenses(vec![LicenseChoice::expression(&licence.replace('/', " OR "))])
    });
    if let Some(checksum) = checksum {
        // Only what is in the registry has a name there.
        component.purl = Some(Purl::new("cargo", name, version).with_context(|| name.clone())?);
        component.hashes =
            Some(Hashes(vec![Hash { alg: HashAlgorithm::SHA_256, content: HashValue(checksum.clone()) }]));
    }
    Ok(component)
}

/// A random number would make each document different: this one is made from what the document is of.
fn serial_number(of: &str) -> Result<UrnUuid> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(of)[..16]);
    // Version 8 (RFC 9562): made by a method of one's own. And its variant.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let text = hex(&bytes);
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    UrnUuid::new(format!("urn:uuid:{}", parts.join("-"))).map_err(|error| anyhow!("the serial number: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::document;
    use crate::dependencies::Dependency;
    use crate::release::Release;

    fn dependency(name: &str, uses: &[&str], checksum: Option<&str>) -> Dependency {
        Dependency {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            licence: Some("MIT/Apache-2.0".to_owned()),
            checksum: checksum.map(str::to_owned),
            folder: "/".into(),
            uses: uses.iter().map(|name| ((*name).to_owned(), "1.0.0".to_owned())).collect(),
        }
    }

    #[test]
    fn the_document_has_the_program_its_crates_and_who_uses_which() {
        let checksum = "ab".repeat(32);
        let all = [dependency("anyhow", &[], Some(&checksum)), dependency("listentop", &["anyhow"], None)];
        let release =
            Release { version: "1.0.0".to_owned(), date: jiff::Timestamp::from_second(1_790_000_000).unwrap() };
        let made = || document(&all, &release, "x86_64-unknown-linux-musl", "1.99.1").unwrap();
        assert!(made() == made(), "the same each time");
        let json: serde_json::Value = serde_json::from_slice(&made()).unwrap();
        assert_eq!((&json["bomFormat"], &json["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
        assert_eq!(json["metadata"]["component"]["name"], "listentop");
        let anyhow = &json["components"][0];
        assert_eq!(anyhow["purl"], "pkg:cargo/anyhow@1.0.0");
        assert_eq!(anyhow["hashes"][0]["content"], checksum);
        assert_eq!(anyhow["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(json["components"][1]["name"], "rust-std");
        let uses = json["dependencies"].as_array().unwrap().iter().find(|uses| uses["ref"] == "listentop@1.0.0");
        assert_eq!(uses.unwrap()["dependsOn"], serde_json::json!(["anyhow@1.0.0"]));
    }
}
