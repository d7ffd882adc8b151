import Foundation
import Synchronization
import Testing

/// Runs `body` with a new directory that is removed afterwards.
func withTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("kontiki-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try await body(path)
}

/// Ports of this machine that nobody listens on.
///
/// They are taken from below the range that the system gives to outgoing connections: a node that is down must find its port
/// free when it comes back.
enum Ports {
    private static let last = Mutex(Int.random(in: 12_000..<28_000))

    static func next() throws -> Int { try consecutive(1) }

    /// The first of some ports in a row.
    static func consecutive(_ count: Int) throws -> Int {
        for _ in 0..<1000 {
            let first = last.withLock { last in
                let first = last + count > 31_999 ? 12_000 : last + 1
                last = first + count - 1
                return first
            }
            if (first..<first + count).allSatisfy(isFree) { return first }
        }
        throw SetupError("no free port was found")
    }

    /// No socket of this machine has the port, in whatever state.
    private static func isFree(_ port: Int) -> Bool {
        let digits = String(port, radix: 16, uppercase: true)
        let ending = ":" + String(repeating: "0", count: 4 - digits.count) + digits
        return ["/proc/net/tcp", "/proc/net/tcp6"].allSatisfy { path in
            let table = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            return !table.split(separator: "\n").dropFirst().contains { line in
                line.split(separator: " ").dropFirst().first?.hasSuffix(ending) ?? false
            }
        }
    }
}

/// A test that could not be set up.
struct SetupError: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Waits for a condition.
///
/// - Throws: when it does not come about in time; `what` names it.
func eventually(
    _ what: String,
    within timeout: Duration = .seconds(60),
    every pause: Duration = .milliseconds(20),
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + timeout
    while !(try await condition()) {
        guard ContinuousClock.now < deadline else {
            throw SetupError("in \(timeout) it did not come about that \(what)")
        }
        try await Task.sleep(for: pause)
    }
}

/// A generator whose numbers follow from a seed (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Writes a line at once; for what a long test has to say.
func report(_ line: String) {
    FileHandle.standardOutput.write(Data((line + "\n").utf8))
}
