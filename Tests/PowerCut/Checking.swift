internal import Foundation
internal import Glibc
internal import KeyValue
internal import KeyValueService
internal import Raft
internal import RaftNode

/// A recorded run: what lies in its directory.
package struct RecordedRun: Sendable {
    package let directory: String

    package init(directory: String) { self.directory = directory }

    /// What is recorded; the node's data lie in `node` below it.
    package var disk: String { directory + "/disk" }
    package var tracePath: String { directory + "/trace" }
    package var bookPath: String { directory + "/book" }
    /// What lay there before; may be missing.
    package var base: String { directory + "/base" }
    /// How the log was found there; see ``LogShape``.
    package var foundPath: String { directory + "/found" }

    package func found() throws -> LogShape? {
        guard isDirectory(base) else { return nil }
        let words = String(decoding: try readFile(foundPath), as: UTF8.self).split(separator: " ")
        var shape = LogShape()
        guard let write = WriteNote(words: words.dropFirst()) else { throw Violation("\(foundPath) is malformed") }
        shape.apply(write)
        return shape
    }

    /// The inverse of ``found()``.
    package func write(found shape: LogShape) throws {
        let write = StorageWrite(sequence: 0, hardState: shape.hardState, replaceLog: LogBase(position: shape.base))
        var note = WriteNote(write)
        note.appendedTerms = shape.terms
        try Data(note.text.utf8).write(to: URL(fileURLWithPath: foundPath))
    }
}

/// What one process found out.
package struct CheckSummary: Sendable {
    package var checked = 0
    /// Of all processes together.
    package var distinct = 0
    package var wholeNodes = 0
    /// Acknowledgements that had to be found, over all images.
    package var acknowledgements = 0

    package init() {}
}

/// Checks images of one run; in a process of its own, because a bad image may end it.
package struct Checker {
    private let run: RecordedRun
    private let plan: ImageRun.Plan
    /// Where the images are put, one after the other.
    private let workPlace: String
    /// Every how many images one is started as a whole node.
    private let wholeNodeEvery: Int
    private let statusDescriptor: Int32

    /// - Parameter status: a file that names the image that is being checked, for who finds the process dead.
    package init(run: RecordedRun, plan: ImageRun.Plan, workPlace: String, status: String, wholeNodeEvery: Int) throws {
        (self.run, self.plan, self.workPlace) = (run, plan, workPlace)
        self.wholeNodeEvery = wholeNodeEvery
        statusDescriptor = Glibc.open(status, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard statusDescriptor >= 0 else { throw FileFailure("open", status) }
    }

    /// An image that did not pass.
    package struct Failure: Error, CustomStringConvertible {
        package let image: ImageName
        package let event: String
        package let reason: String

        package var description: String { "image \(image), behind \(event): \(reason)" }
    }

    /// - Throws: ``Failure`` at the first image that does not pass; that is left in the work place.
    package func check(_ progress: (CheckSummary) -> Void) throws -> CheckSummary {
        let trace = try Trace(contentsOf: run.tracePath)
        var book = try EntryBook(contentsOf: run.bookPath)
        let base = isDirectory(run.base) ? run.base : nil
        var walk = ImageRun(trace: trace, base: base, found: try run.found(), plan: plan)
        var summary = CheckSummary()
        try walk.walk { name, image, expectation in
            tell(name)
            let (checked, whole) = (workPlace + "/image", workPlace + "/whole")
            removeTree(checked)
            try image.write(to: checked)
            let isWhole = wholeNodeEvery > 0 && summary.checked % wholeNodeEvery == wholeNodeEvery / 4
            do {
                let shape = try check(checked, name, expectation, &book)
                if isWhole {
                    removeTree(whole)
                    try image.write(to: whole)
                    try startWhole(whole, shape, isMember: expectation.hasCluster, &book)
                    summary.wholeNodes += 1
                }
            } catch {
                removeTree(checked)
                try image.write(to: checked)
                throw Failure(image: name, event: trace.records[name.record].summary, reason: "\(error)")
            }
            summary.checked += 1
            summary.acknowledgements += expectation.acknowledged.count
            if summary.checked % 1000 == 0 { progress(summary) }
            return true
        }
        removeTree(workPlace)
        summary.distinct = walk.distinct
        return summary
    }

    private func check(
        _ directory: String,
        _ name: ImageName,
        _ expectation: Expectation,
        _ book: inout EntryBook
    ) throws -> LogShape {
        let seed = mix(UInt64(name.record), UInt64(name.number))
        var check = ImageCheck(directory: directory, isThorough: plan.only != nil, seed: seed)
        return try check.run(expectation, &book)
    }

    private func tell(_ name: ImageName) {
        let text = Array("\(name)".utf8) + [UInt8](repeating: 0x20, count: 16)
        _ = pwrite(statusDescriptor, text, text.count, 0)
    }

    /// The image as a whole real node: it starts, and when it is alone in its cluster it leads and takes a command.
    /// One that was not taken into a cluster yet must be told whom to ask.
    private func startWhole(
        _ directory: String,
        _ shape: LogShape,
        isMember: Bool,
        _ book: inout EntryBook
    ) throws {
        guard let end = book.step(at: shape.last) else { return }
        let command = Command.put(key: Array("whole".utf8)[...], value: Array("node".utf8)[...])
        let notes = Notes(isSubject: false, book: try EntryBookWriter(path: directory + "/book"))
        try waiting {
            let server: Server
            do {
                server = try await Server.start(directory, .bootstrap, port: 0, notes: notes)
            } catch let error as StartError where error.code == .nothingToStart && !isMember {
                return
            }
            let status = server.node.status
            let store = server.node.machine.store
            var wrong: Violation?
            if status.configuration.voters == [status.serverID], !status.configuration.isJoint {
                try await server.carryOut(command)
                let payload = command.encode(timestampMilliseconds: store.mark.timestampMilliseconds)
                let position = LogPosition(index: store.mark.index, term: store.mark.term)
                var random = SeededNumbers(seed: position.index)
                do {
                    try StateCheck(store, against: Step(behind: end, position, .command(payload))).run(
                        isThorough: true,
                        &random
                    )
                } catch let violation as Violation {
                    wrong = violation
                }
            }
            try await server.stop()
            if let wrong { throw Violation("as a whole node: \(wrong)") }
        }
    }
}

/// Runs `body` while this thread waits.
func waiting(_ body: @escaping @Sendable () async throws -> Void) throws {
    let ended = DispatchSemaphore(value: 0)
    let ending = Ending()
    Task.detached {
        do {
            try await body()
        } catch {
            ending.error = error
        }
        ended.signal()
    }
    ended.wait()
    if let error = ending.error { throw error }
}

/// Sound to share because it is written before the semaphore is signalled and read after.
private final class Ending: @unchecked Sendable {
    var error: (any Error)?
}

extension Trace.Record {
    /// For people.
    var summary: String {
        switch event {
        case .write(_, let offset, let bytes, let isSynchronous):
            "\(sequence) \(isSynchronous ? "durable " : "")write of \(bytes.count) bytes at \(offset)"
        default: "\(sequence) \(event)"
        }
    }
}
