//! Commands that only describe the LUN: from the CDB and the controller's view of the LUN to parameter data, cut
//! to the allocation length.

use controller::pair::Role;
use controller::unit::LunView;
use protocol::scsi::cdb::Cdb;
use protocol::scsi::defects::ReadDefectData;
use protocol::scsi::inquiry::{self, Inquiry, Peripheral};
use protocol::scsi::mode::{self, ModeSense, Parameters};
use protocol::scsi::operation_codes::{self, Options, ReportOperationCodes};
use protocol::scsi::read_capacity;
use protocol::scsi::sense::Sense;
use protocol::scsi::target_port_groups::{self, AccessState, Group, ReportTargetPortGroups};
use protocol::scsi::task_management::{self, ReportTaskManagementFunctions};
use protocol::scsi::vpd::{self, Identity};

use super::limits::block_limits;
use super::table;

/// Parameter data or why there is none.
pub(super) type Answer = Result<Vec<u8>, Sense>;

/// Cuts parameter data to the ALLOCATION LENGTH (SPC-4 4.2.5.6).
pub(super) fn cut(mut data: Vec<u8>, allocation: usize) -> Vec<u8> {
    data.truncate(allocation);
    data
}

/// TEST UNIT READY (SPC-4 6.47): that it was admitted is the answer.
pub(super) fn test_unit_ready(_: &Cdb, _: &LunView) -> Answer {
    Ok(Vec::new())
}

/// INQUIRY (SPC-4 6.6).
pub(super) fn inquiry(cdb: &Cdb, view: &LunView) -> Answer {
    let asked = Inquiry::of(cdb);
    if asked.cmddt {
        return Err(Sense::invalid_cdb_field(1));
    }
    if !asked.evpd && asked.page != 0 {
        return Err(Sense::invalid_cdb_field(2));
    }
    let data = if asked.evpd {
        let Some(name) = &view.identity else {
            return Err(Sense::LUN_NOT_SUPPORTED);
        };
        let identity =
            Identity { serial: &name.serial, naa: name.naa, port: group_id(view.controller_index) };
        let limits = block_limits(view.physical_block_exponent);
        vpd::page(asked.page, &identity, &limits).ok_or(Sense::invalid_cdb_field(2))?
    } else {
        let peripheral = if view.identity.is_some() { Peripheral::Disk } else { Peripheral::Absent };
        inquiry::standard(peripheral).to_vec()
    };
    Ok(cut(data, asked.allocation))
}

/// READ CAPACITY (10) (SBC-3 5.12).
pub(super) fn read_capacity_10(cdb: &Cdb, view: &LunView) -> Answer {
    if read_capacity::lba_without_pmi(cdb) {
        return Err(Sense::invalid_cdb_field(2));
    }
    Ok(read_capacity::capacity_10(view.blocks).to_vec())
}

/// READ CAPACITY (16) (SBC-3 5.13).
pub(super) fn read_capacity_16(cdb: &Cdb, view: &LunView) -> Answer {
    let data = read_capacity::capacity_16(view.blocks, view.physical_block_exponent).to_vec();
    Ok(cut(data, read_capacity::allocation_16(cdb)))
}

/// READ DEFECT DATA (10) (SBC-3 5.14).
pub(super) fn read_defect_data_10(cdb: &Cdb, _: &LunView) -> Answer {
    let asked = ReadDefectData::of_10(cdb);
    if asked.format_is_reserved() {
        return Err(Sense::invalid_cdb_field(2));
    }
    Ok(cut(asked.parameter_data(), asked.allocation))
}

/// READ DEFECT DATA (12) (SBC-3 5.15).
pub(super) fn read_defect_data_12(cdb: &Cdb, _: &LunView) -> Answer {
    let asked = ReadDefectData::of_12(cdb);
    if asked.format_is_reserved() {
        return Err(Sense::invalid_cdb_field(1));
    }
    Ok(cut(asked.parameter_data(), asked.allocation))
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-4 6.36).
pub(super) fn report_task_management_functions(cdb: &Cdb, _: &LunView) -> Answer {
    let asked = ReportTaskManagementFunctions::of(cdb);
    if asked.allocation < task_management::ALLOCATION_MIN {
        return Err(Sense::invalid_cdb_field(6));
    }
    Ok(cut(asked.parameter_data(), asked.allocation as usize))
}

/// MODE SENSE (6) (SPC-4 6.13).
pub(super) fn mode_sense_6(cdb: &Cdb, view: &LunView) -> Answer {
    mode_sense(&ModeSense::of_6(cdb), view)
}

/// MODE SENSE (10) (SPC-4 6.14).
pub(super) fn mode_sense_10(cdb: &Cdb, view: &LunView) -> Answer {
    mode_sense(&ModeSense::of_10(cdb), view)
}

/// What the mode pages of a LUN tell.
pub(super) fn mode_parameters(view: &LunView) -> Parameters {
    let [current, saved] = view.modes;
    Parameters {
        blocks: view.blocks,
        write_cache: view.write_cache,
        read_only: view.read_only,
        current,
        saved,
    }
}

fn mode_sense(asked: &ModeSense, view: &LunView) -> Answer {
    Ok(cut(mode::parameter_list(asked, &mode_parameters(view))?, asked.allocation))
}

/// REPORT TARGET PORT GROUPS (SPC-4 6.36): a group for each controller.
pub(super) fn report_target_port_groups(cdb: &Cdb, view: &LunView) -> Answer {
    let asked = ReportTargetPortGroups::of(cdb);
    let format = asked.format.ok_or(Sense::invalid_cdb_field(1))?;
    let groups = [0, 1].map(|index| Group { id: group_id(index), state: access_state(view, index) });
    Ok(cut(target_port_groups::parameter_data(format, &groups), asked.allocation))
}

/// Target port group and relative target port of a controller by its place in the configuration, 0 or 1.
fn group_id(controller_index: usize) -> u16 {
    if controller_index == 0 { 1 } else { 2 }
}

/// How well the LUN is reached through a controller: best through main, which orders the writes.
fn access_state(view: &LunView, controller_index: usize) -> AccessState {
    let own = controller_index == view.controller_index;
    let serving = if own { view.serving } else { view.peer_serving };
    let main = own == (view.role == Role::Main);
    match (serving, main) {
        (false, _) => AccessState::Unavailable,
        (true, true) => AccessState::Optimized,
        (true, false) => AccessState::NonOptimized,
    }
}

/// REPORT SUPPORTED OPERATION CODES (SPC-4 6.35), from the table itself.
pub(super) fn report_operation_codes(cdb: &Cdb, _: &LunView) -> Answer {
    let asked = ReportOperationCodes::of(cdb);
    let has_actions = table::has_service_actions(asked.opcode);
    let by_action = match asked.options.ok_or(Sense::invalid_cdb_field(2))? {
        Options::All => {
            let all = operation_codes::all_commands(table::supported(), asked.timeouts);
            return Ok(cut(all, asked.allocation));
        }
        Options::Opcode if has_actions => return Err(Sense::invalid_cdb_field(2)),
        Options::ServiceAction if !has_actions && table::has_opcode(asked.opcode) => {
            return Err(Sense::invalid_cdb_field(2));
        }
        Options::Opcode => false,
        Options::ServiceAction => true,
        Options::Either => has_actions,
    };
    // Without service actions the field must be zero for options 011b and is not looked at for 001b.
    let action_matches = asked.options == Some(Options::Opcode) || asked.service_action == 0;
    let found = table::supported().find(|row| {
        row.opcode == asked.opcode
            && match row.service_action {
                Some(action) => by_action && u16::from(action) == asked.service_action,
                None => action_matches,
            }
    });
    Ok(cut(operation_codes::one_command(found, asked.timeouts), asked.allocation))
}
