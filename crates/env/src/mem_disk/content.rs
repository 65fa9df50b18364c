//! The bytes of one in-memory file: what readers see and what a crash would leave.

use crate::{Rng, UnsyncedData};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
/// The unit a disk writes atomically.
const SECTOR_BYTES: usize = 512;

type Page = [u8; PAGE_BYTES];

/// Sparse bytes: absent pages are zero, so that a preallocated segment costs nothing.
#[derive(Clone, Debug, Default)]
struct Sparse {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Sparse {
    fn put(&mut self, number: u64, page: Option<Arc<Page>>) {
        match page {
            Some(page) => self.pages.insert(number, page),
            None => self.pages.remove(&number),
        };
    }

    /// Bytes past the end must read as zero when the file grows again.
    fn clear_past_end(&mut self) {
        let end = self.len;
        let _ = self.pages.split_off(&end.div_ceil(PAGE));
        if !end.is_multiple_of(PAGE)
            && let Some(page) = self.pages.get_mut(&(end / PAGE))
        {
            Arc::make_mut(page)[(end % PAGE) as usize..].fill(0);
        }
    }
}

/// One file's contents, live and durable.
#[derive(Debug, Default)]
pub(super) struct Content {
    live: Sparse,
    durable: Sparse,
    dirty: BTreeSet<u64>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.live.len
    }

    /// What is durable of it, with nothing written since.
    pub(super) fn durable_copy(&self) -> Self {
        Self {
            live: self.durable.clone(),
            durable: self.durable.clone(),
            dirty: BTreeSet::new(),
        }
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let available = self.live.len.saturating_sub(offset);
        let wanted = usize::try_from(available)
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let n = (PAGE_BYTES - within).min(wanted - done);
            let target = &mut buf[done..done + n];
            match self.live.pages.get(&(at / PAGE)) {
                Some(page) => target.copy_from_slice(&page[within..within + n]),
                None => target.fill(0),
            }
            done += n;
        }
        wanted
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let n = (PAGE_BYTES - within).min(data.len() - done);
            let page = self
                .live
                .pages
                .entry(at / PAGE)
                .or_insert_with(|| Arc::new([0; 4096]));
            Arc::make_mut(page)[within..within + n].copy_from_slice(&data[done..done + n]);
            self.dirty.insert(at / PAGE);
            done += n;
        }
        self.live.len = self.live.len.max(offset + data.len() as u64);
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.live.len {
            let first_cut = len / PAGE;
            self.dirty.extend(
                self.live
                    .pages
                    .range(first_cut..)
                    .map(|(number, _)| *number),
            );
        }
        self.live.len = len;
        self.live.clear_past_end();
    }

    pub(super) fn sync(&mut self) {
        for number in std::mem::take(&mut self.dirty) {
            self.durable
                .put(number, self.live.pages.get(&number).cloned());
        }
        self.durable.len = self.live.len;
        self.durable.clear_past_end();
    }

    /// A failed sync: the kernel marks the pages clean although they never reached the disk, so
    /// that the next sync succeeds without writing them.
    pub(super) fn lose_dirty_marks(&mut self) {
        self.dirty.clear();
    }

    pub(super) fn crash(&mut self, rng: &dyn Rng, fate: UnsyncedData) {
        if fate == UnsyncedData::Torn {
            self.write_back_some(rng);
        }
        self.live = self.durable.clone();
        self.dirty.clear();
    }

    /// The kernel had written back an arbitrary subset of the dirty sectors.
    fn write_back_some(&mut self, rng: &dyn Rng) {
        if rng.below(2) == 0 {
            self.durable.len = self.live.len;
        }
        for number in &self.dirty {
            let zero: Arc<Page> = Arc::new([0; PAGE_BYTES]);
            let live = self.live.pages.get(number).unwrap_or(&zero).clone();
            let mut torn = self.durable.pages.get(number).unwrap_or(&zero).clone();
            for (target, source) in Arc::make_mut(&mut torn)
                .chunks_exact_mut(SECTOR_BYTES)
                .zip(live.chunks_exact(SECTOR_BYTES))
            {
                if rng.below(2) == 0 {
                    target.copy_from_slice(source);
                }
            }
            self.durable.put(*number, Some(torn));
        }
        self.durable.clear_past_end();
    }

    /// Flips one bit on the medium; false if the file is shorter.
    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        if offset >= self.live.len {
            return false;
        }
        for side in [&mut self.live, &mut self.durable] {
            let page = side
                .pages
                .entry(offset / PAGE)
                .or_insert_with(|| Arc::new([0; 4096]));
            Arc::make_mut(page)[(offset % PAGE) as usize] ^= 1 << (bit % 8);
        }
        true
    }
}
