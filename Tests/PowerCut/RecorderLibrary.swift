import Foundation

/// The library that is preloaded into the node; see Tests/DiskRecorder.
package enum RecorderLibrary {
    /// Where SwiftPM builds it: beside the running program.
    package static var path: String {
        let beside = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
            .deletingLastPathComponent()
        return beside.appendingPathComponent("libDiskRecorder.so").path
    }
}
