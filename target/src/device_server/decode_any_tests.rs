//! Whatever a CDB says, nothing outside the LUN is touched.

use controller::command::Op;
use proptest::prelude::*;
use protocol::block::BlockRange;
use protocol::interlink::Report;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::sense::SenseKey;

use super::decode_tests::{BOUNDS, CAPACITY, pieces, view, who};
use super::limits::{ATOMIC_BLOCKS_MAX, DATA_OUT_BYTES_MAX};
use super::medium::DataOut;
use super::table::{Run, TABLE};
use super::{absent, checked_row, data_out_bytes};

/// A CDB of a command there is, or of none.
fn any_cdb() -> impl Strategy<Value = Cdb> {
    (any::<[u8; 16]>(), proptest::option::of(0..TABLE.len()), any::<bool>()).prop_map(
        |(mut cdb, row, low)| {
            if let Some(row) = row.map(|at| &TABLE[at]) {
                cdb[0] = row.opcode;
                cdb[1] = row.service_action.unwrap_or(cdb[1] & 0x18);
                cdb[row.usage.len() - 1] = 0;
            }
            if low {
                // Addresses and lengths that mean something on a small LUN.
                cdb[2..9].fill(0);
                cdb[10..13].fill(0);
            }
            cdb
        },
    )
}

proptest! {
    #[test]
    fn whatever_is_decoded_lies_inside_the_lun_and_carries_its_bytes(
        cdb in any_cdb(), bytes in 0_usize..5000, exact in any::<bool>()
    ) {
        let wanted = data_out_bytes(&cdb);
        let bytes = if exact { wanted.min(65_536) as usize } else { bytes };
        prop_assert!(wanted <= DATA_OUT_BYTES_MAX);
        let data = pieces(bytes.min(wanted as usize));
        let announced = bytes as u64;
        let inside = |range: &BlockRange| !range.is_empty() && range.end().0 <= CAPACITY;
        match checked_row(&cdb).map(|row| row.run) {
            Ok(Run::Shared(decode)) => {
                if let Err(sense) = decode(&cdb, &view(), who(), &data.concat()) {
                    prop_assert_eq!(sense.key, SenseKey::IllegalRequest);
                }
            }
            Ok(Run::Medium(decode)) => match decode(&cdb, BOUNDS, DataOut { pieces: data, announced }) {
                Ok(Some(Op::Read { range } | Op::Prefetch { range })) => prop_assert!(inside(&range)),
                Ok(Some(Op::Verify { range, expected })) => {
                    prop_assert!(inside(&range));
                    prop_assert!([0, 512, range.bytes()].contains(&(expected.concat().len() as u64)));
                }
                Ok(Some(Op::Report { what: Report::LbaStatus { start }, allocation })) => {
                    prop_assert!(start.0 < CAPACITY && allocation > 0);
                }
                Ok(Some(
                    Op::Write { range, data, .. }
                    | Op::WriteAndVerify { range, data },
                )) => {
                    prop_assert!(inside(&range));
                    prop_assert_eq!(data.concat().len() as u64, range.bytes());
                }
                Ok(Some(Op::WriteAtomic { range, data, .. } | Op::OrWrite { range, data, .. })) => {
                    prop_assert!(inside(&range) && range.blocks <= u64::from(ATOMIC_BLOCKS_MAX));
                    prop_assert_eq!(data.concat().len() as u64, range.bytes());
                }
                Ok(Some(Op::WriteSame { range, block, .. })) => {
                    prop_assert!(inside(&range));
                    prop_assert_eq!(block.len(), 512);
                }
                Ok(Some(Op::CompareAndWrite { range, compare, write, .. })) => {
                    prop_assert!(inside(&range));
                    prop_assert_eq!(compare.concat().len() as u64, range.bytes());
                    prop_assert_eq!(write.concat().len() as u64, range.bytes());
                }
                Ok(Some(Op::Unmap { ranges })) => {
                    prop_assert!(ranges.iter().all(inside));
                    prop_assert!(ranges.windows(2).all(|pair| pair[0].end() < pair[1].start));
                }
                Ok(Some(Op::SynchronizeCache | Op::Event(_) | Op::StartStop { .. } | Op::Report { .. })) => {}
                Ok(None) | Err(_) => {}
            },
            Ok(Run::Describe(_, answer)) => drop(answer(&cdb, &view())),
            Ok(Run::PreventAllow) => drop(super::state::prevent_allow(&cdb)),
            Ok(Run::Tell(told)) => drop(told(&cdb)),
            Ok(Run::RequestSense | Run::ReportLuns | Run::ExtendedCopy | Run::CopyResults) | Err(_) => {
                drop(absent(&[0, 1], &cdb));
            }
        }
    }
}
