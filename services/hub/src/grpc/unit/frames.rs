//! The frames of a tunnel as the methods know them.

use upm_proto::hub::v1::{
    self as pb, bytes::Frame, exec_in_unit_request, exec_in_unit_response, read_unit_file_response,
    write_unit_file_request, write_unit_file_response,
};

use super::check;
use crate::Error;

/// From a log.
pub(super) fn of_log(frame: Frame) -> Option<pb::TailAgentLogResponse> {
    match frame {
        Frame::Data(data) => Some(pb::TailAgentLogResponse { data }),
        Frame::Hello(_)
        | Frame::End(_)
        | Frame::Stderr(_)
        | Frame::Resize(_)
        | Frame::InputEnd(_)
        | Frame::Started(_)
        | Frame::Exit(_)
        | Frame::File(_)
        | Frame::Digest(_)
        | Frame::Credit(_) => None,
    }
}

/// To a command.
pub(super) fn of_command(
    part: Result<pb::ExecInUnitRequest, Error>,
) -> Result<Option<Frame>, Error> {
    use exec_in_unit_request::Part;
    Ok(match part?.part {
        Some(Part::Stdin(bytes)) => {
            check::part(&bytes)?;
            Some(Frame::Data(bytes))
        }
        Some(Part::Resize(size)) => Some(Frame::Resize(size)),
        Some(Part::StdinEnd(_)) => Some(Frame::InputEnd(pb::InputEnd {})),
        Some(Part::Start(_)) => return Err(Error::field("start", "comes once")),
        // Of a later version.
        None => None,
    })
}

/// From a command.
pub(super) fn to_command(frame: Frame) -> Option<pb::ExecInUnitResponse> {
    use exec_in_unit_response::Part;
    let part = match frame {
        Frame::Started(started) => Part::Started(started),
        Frame::Data(bytes) => Part::Stdout(bytes),
        Frame::Stderr(bytes) => Part::Stderr(bytes),
        Frame::Exit(exit) => Part::Exit(exit),
        Frame::Hello(_)
        | Frame::End(_)
        | Frame::Resize(_)
        | Frame::InputEnd(_)
        | Frame::File(_)
        | Frame::Digest(_)
        | Frame::Credit(_) => return None,
    };
    Some(pb::ExecInUnitResponse { part: Some(part) })
}

/// From a file that is read.
pub(super) fn of_file(frame: Frame) -> Option<pb::ReadUnitFileResponse> {
    use read_unit_file_response::Part;
    let part = match frame {
        Frame::File(facts) => Part::Facts(facts),
        Frame::Data(bytes) => Part::Data(bytes),
        Frame::Digest(digest) => Part::Digest(digest),
        Frame::Hello(_)
        | Frame::End(_)
        | Frame::Stderr(_)
        | Frame::Resize(_)
        | Frame::InputEnd(_)
        | Frame::Started(_)
        | Frame::Exit(_)
        | Frame::Credit(_) => return None,
    };
    Some(pb::ReadUnitFileResponse { part: Some(part) })
}

/// To a file that is written.
pub(super) fn to_file(part: Result<pb::WriteUnitFileRequest, Error>) -> Result<Frame, Error> {
    use write_unit_file_request::Part;
    match part?.part {
        Some(Part::Data(bytes)) => {
            check::part(&bytes)?;
            Ok(Frame::Data(bytes))
        }
        Some(Part::Digest(digest)) => Ok(Frame::Digest(digest)),
        Some(Part::Start(_)) => Err(Error::field("start", "comes once")),
        // What is not understood may not be left out of a file.
        None => Err(Error::field("part", "is of no known kind")),
    }
}

/// From a file that is written.
pub(super) fn of_write(frame: Frame) -> Option<pb::WriteUnitFileResponse> {
    use write_unit_file_response::Part;
    let part = match frame {
        Frame::Started(_) => Part::Started(pb::WriteStarted {}),
        Frame::Digest(digest) => Part::Digest(digest),
        Frame::Hello(_)
        | Frame::Data(_)
        | Frame::End(_)
        | Frame::Stderr(_)
        | Frame::Resize(_)
        | Frame::InputEnd(_)
        | Frame::Exit(_)
        | Frame::File(_)
        | Frame::Credit(_) => return None,
    };
    Some(pb::WriteUnitFileResponse { part: Some(part) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_and_parts_that_are_too_large_end_the_call() {
        use exec_in_unit_request::Part;
        let of = |part| of_command(Ok(pb::ExecInUnitRequest { part }));
        assert!(of(Some(Part::Start(pb::ExecStart::default()))).is_err());
        assert!(of(Some(Part::Stdin(vec![0; 64 * 1024 + 1].into()))).is_err());
        assert!(of(Some(Part::Stdin(vec![0; 64 * 1024].into()))).is_ok());
        assert_eq!(of(None).unwrap(), None);
    }

    #[test]
    fn what_is_not_understood_is_never_left_out_of_a_file() {
        assert!(to_file(Ok(pb::WriteUnitFileRequest { part: None })).is_err());
    }
}
