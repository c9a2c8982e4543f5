//! Planning an image's part of a restore: whether it must be loaded, whether this host can run it, which tags move.

use super::prepare::{ImagePart, Plan, Planner};
use super::{Error, Result};
use crate::repo::manifest::{ImageDetail, SourceEntry};
use std::collections::BTreeMap;

impl<'a> Planner<'a> {
    pub(super) fn image(&self, plan: &mut Plan<'a>, source: &'a SourceEntry, detail: &'a ImageDetail) -> Result<()> {
        let subject = format!("image {}", source.name);
        let failed =
            |error: crate::docker::Error| Error::Engine { subject: subject.clone(), message: error.to_string() };
        let id_of = |name: &str| match self.engine.image(name) {
            Ok(image) => Ok(Some(image.id)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(failed(error)),
        };
        let is_there = id_of(&detail.id)?.is_some();
        if !is_there {
            let info = self.engine.info().map_err(failed)?;
            let here = format!("{}/{}", info.os, architecture(&info.architecture));
            let there: Vec<&str> = detail.platform.splitn(3, '/').take(2).collect();
            if !detail.platform.is_empty() && there.join("/") != here {
                let message = format!("it is of {}, and this host is {here}", detail.platform);
                return Err(Error::Engine { subject, message });
            }
            plan.need(&info.root_dir, source.bytes)?;
            plan.changes.push(format!("{subject} is loaded again ({})", crate::amount::bytes(source.bytes)));
        }
        let mut tags = BTreeMap::new();
        for tag in &detail.tags {
            let now = id_of(tag)?;
            if now.as_deref() != Some(&detail.id) {
                let from = now.as_deref().map_or("nothing".to_owned(), |id| short(id).to_owned());
                plan.changes.push(format!("image tag {tag}: {from} → {}", short(&detail.id)));
                tags.insert(tag.clone(), now);
            }
        }
        plan.images.push(ImagePart { source, detail, is_there, tags });
        Ok(())
    }
}

fn architecture(engine: &str) -> &str {
    match engine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..8).unwrap_or(digits)
}
