import Foundation

/// The disk of one node under the preloaded library, with switches that work while the node runs; see Tests/DiskRecorder.
struct DiskSwitches: Sendable {
    /// Where SwiftPM builds the library: beside the tests.
    static var libraryPath: String {
        URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
            .appendingPathComponent("libDiskRecorder.so").path
    }

    enum Room: UInt8 {
        case plenty
        /// Files cannot grow, and no new ones can be made.
        case none
        /// Not even what lies ready in a file can be written.
        case notAByte
    }

    let directory: String

    /// What the node is started with.
    var environment: [String: String] {
        ["LD_PRELOAD": Self.libraryPath, "KONTIKI_DISK_DIR": directory, "KONTIKI_DISK_CONTROL": file]
    }

    private var file: String { directory + ".switches" }

    func set(_ room: Room) throws { try set(0, room.rawValue) }

    /// Syncs wait until this is called again with false.
    func blockSyncs(_ isBlocked: Bool) throws { try set(1, isBlocked ? 1 : 0) }

    /// Every sync takes so much longer.
    func delaySyncs(tensOfMilliseconds: UInt8) throws { try set(2, tensOfMilliseconds) }

    private func set(_ offset: UInt64, _ value: UInt8) throws {
        let file = try FileHandle(forWritingTo: URL(fileURLWithPath: file))
        try file.seek(toOffset: offset)
        try file.write(contentsOf: Data([value]))
        try file.close()
    }
}

/// ``withTemporaryDirectory(_:)`` in memory where the system has such a place: what is tested is what the node does with the answers
/// of a disk, not how long it waits for them.
func withFastDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let memory = "/dev/shm"
    var information = statvfs()
    // A container may have 64 MB of it, which three nodes' logs fill.
    guard access(memory, W_OK) == 0, statvfs(memory, &information) == 0,
        UInt64(information.f_bavail) * UInt64(information.f_frsize) > 512 << 20
    else { return try await withTemporaryDirectory(body) }
    let path = "\(memory)/kontiki-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try await body(path)
}
