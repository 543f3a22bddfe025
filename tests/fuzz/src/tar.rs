//! Checksums of tar headers: a fuzzer that changes a byte would have to guess a sum.

const BLOCK: usize = 512;

/// Where a header says that it is one, and where its sum is.
const MAGIC: std::ops::Range<usize> = 257..262;
const SUM: std::ops::Range<usize> = 148..156;

/// The archive with the right sum in each block that says it is a header.
pub fn with_sums(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    for block in archive.chunks_exact_mut(BLOCK) {
        if &block[MAGIC] != b"ustar" {
            continue;
        }
        block[SUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    archive
}
