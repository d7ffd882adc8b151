import Foundation
import KontikiClient
import Testing

/// Runs `body` with a new directory that is removed afterwards.
func withTemporaryDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("kontiki-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: path) }
    return try await body(path)
}

/// A test that could not be set up.
struct SetupError: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Waits for a condition; one that throws has not come about yet, since a node that is asked may be down or hear nothing for a while.
///
/// - Throws: when it does not come about in time; `what` names it.
func eventually(
    _ what: String,
    within timeout: Duration = .seconds(60),
    every pause: Duration = .milliseconds(20),
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + timeout
    while true {
        var reason = ""
        do {
            if try await condition() { return }
        } catch {
            reason = ": \(error)"
        }
        guard ContinuousClock.now < deadline else {
            throw SetupError("in \(timeout) it did not come about that \(what)\(reason)")
        }
        try await Task.sleep(for: pause)
    }
}

/// Asks again when the node could not answer: a client of one node does not try again by itself, and it may hear nothing of a leader for a
/// while. For reads, and for writes that may be carried out more than once.
func patiently<Result>(_ ask: () async throws -> Result) async throws -> Result {
    let deadline = ContinuousClock.now + .seconds(30)
    while true {
        do {
            return try await ask()
        } catch let error as ClientError {
            let isPassing = [.unavailable, .timedOut, .connectionLost].contains(error.code)
            guard isPassing, ContinuousClock.now < deadline else { throw error }
            try await Task.sleep(for: .milliseconds(50))
        }
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
