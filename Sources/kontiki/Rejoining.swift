import DataDirectory
import Foundation
import LMDB
import Logging

/// What `--rejoin` does before a node starts: it makes room for a new server where the data of the old one is beyond repair.
enum Rejoining {
    /// Moves the content of a damaged data directory aside when only the other servers can help. Data that is sound, or that the node can
    /// build anew by itself, stays: then the option does nothing, so that it may stand in a unit file.
    static func prepare(_ directory: String, _ logger: Logger) throws {
        guard FileManager.default.fileExists(atPath: directory + "/log") else { return }
        let report: DirectoryReport
        do {
            report = try DataDirectory.examine(directory)
        } catch {
            throw Failure(.temporary, "--rejoin: \(directory) cannot be examined: \(error)")
        }
        guard [.rejoin, .salvage].contains(report.remedy) else {
            logger.notice("--rejoin has nothing to do: this node can go on with its data")
            return
        }
        for part in report.parts {
            for damage in part.damages.prefix(5) {
                logger.error("damaged", metadata: ["part": "\(part.name)", "damage": "\(damage)"])
            }
        }
        let stamp = Int(Date().timeIntervalSince1970)
        let kept = "\(directory)/damaged-\(stamp)"
        do {
            let files = FileManager.default
            try files.createDirectory(atPath: kept, withIntermediateDirectories: false)
            // The log goes last: as long as it is there, a crash in between is a damaged server still, and the next start goes on with it.
            for name in ["state", "snapshots", "quarantine", "log"]
            where files.fileExists(atPath: "\(directory)/\(name)") {
                try files.moveItem(atPath: "\(directory)/\(name)", toPath: "\(kept)/\(name)")
                try synchronizeDirectory(directory)
            }
        } catch let error as LMDBError {
            throw Failure(.io, "--rejoin: the damaged data cannot be moved to \(kept): \(error)")
        } catch {
            throw Failure(.io, "--rejoin: the damaged data cannot be moved to \(kept): \(error.localizedDescription)")
        }
        logger.warning(
            "the damaged data was moved aside; this node joins as a new server in the place of the old one",
            metadata: ["kept": "\(kept)"]
        )
    }
}
