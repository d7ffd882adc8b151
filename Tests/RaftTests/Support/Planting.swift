import Foundation

@testable import Raft

/// Switches on the bug that `KONTIKI_PLANTED_BUG` names, in builds that contain bugs at all; see ``PlantedBug``.
///
/// Whatever makes a core, a log or a driver in a test calls it first. `Deploy/mutations.sh` runs the suite once for each bug and demands that it fails.
func switchOnPlantedBug() { _ = Planting.once }

private enum Planting {
    static let once: Void = {
        #if KONTIKI_PLANTED_BUGS
            guard let name = ProcessInfo.processInfo.environment["KONTIKI_PLANTED_BUG"] else { return }
            guard let bug = PlantedBug(rawValue: name) else { preconditionFailure("there is no bug named \(name)") }
            plantedBug = bug
        #endif
    }()
}
