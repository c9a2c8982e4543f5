//! A container's files as tar archives: the way to volumes that are not on this host.

use super::json::with_query;
use super::{Body, Engine, Result};
use crate::monitor::Monitor;
use hyper::Method;
use std::io::Read;

impl Engine {
    /// A file or folder of a container, which need not run. The engine ends the archive in the same
    /// way whether it is whole or not: whoever reads it must see that its own end is there.
    ///
    /// # Errors
    /// Container or path are not there, or the engine does not answer.
    pub fn read_archive<'m>(&self, container: &str, path: &str, monitor: &'m dyn Monitor) -> Result<Body<'m>> {
        let tail = with_query("/archive", &[("path", path)]);
        let mut call = self.container_call("read files of", container, Method::GET, &tail).limit(None);
        self.inner.link.stream(&mut call, monitor)
    }

    /// Unpacks an archive into the folder `path` of a container, owners included. A file never
    /// replaces a folder or the other way round.
    ///
    /// # Errors
    /// `archive` cannot be read, container or path are not there, or the engine refuses.
    pub fn write_archive(
        &self,
        container: &str,
        path: &str,
        archive: &mut dyn Read,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let pairs = [("path", path), ("noOverwriteDirNonDir", "1")];
        let call = self.container_call("write files of", container, Method::PUT, &with_query("/archive", &pairs));
        let mut call = call.limit(None).monitor(monitor);
        let answer = self.inner.link.upload(&mut call, archive)?;
        call.refusal(answer.status, &answer.body).map_or(Ok(()), Err)
    }
}
