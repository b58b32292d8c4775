//! Bytes of pages that no version holds, from the file they were mapped from.

use crate::Recording;
use crate::bytes::{Page, ZERO_PAGE};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use stillframe_image::FileIdentity;

impl Recording {
    /// Reads the page of a file at `offset`; zeros beyond its end. The error says why it is not to
    /// be had.
    pub(super) fn file_page(
        &self,
        file: &FileIdentity,
        offset: u64,
        out: &mut Page,
    ) -> Result<(), String> {
        *out = ZERO_PAGE;
        if let Some(id) = &file.object {
            let object = self.shared_object(id);
            return match object.and_then(|o| o.read_at(offset, out)) {
                Ok(_) => Ok(()),
                // The file itself may still be there.
                Err(e) => original(file, offset, out).map_err(|why| format!("{e}; and {why}")),
            };
        }
        original(file, offset, out)
    }
}

fn original(file: &FileIdentity, offset: u64, out: &mut Page) -> Result<(), String> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
    let shown = path.display();
    if file.deleted {
        return Err(format!(
            "{shown} had been deleted and the recording keeps no copy of it"
        ));
    }
    let opened = open_regular(path).map_err(|e| format!("cannot open {shown}: {e}"))?;
    let now = opened
        .metadata()
        .map_err(|e| format!("cannot look at {shown}: {e}"))?;
    let modified = now
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(now.mtime_nsec());
    if !now.is_file() || now.len() != file.size || modified != file.modified_ns {
        return Err(format!(
            "{shown} has changed since and the recording keeps no copy of it"
        ));
    }
    *out = ZERO_PAGE;
    let mut done = 0;
    while done < out.len() {
        match opened.read_at(&mut out[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(format!("cannot read {shown}: {e}")),
        }
    }
    Ok(())
}

/// Opens without waiting, should the path now name a pipe or a device.
fn open_regular(path: &Path) -> std::io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.cast_signed())
        .open(path)
}
