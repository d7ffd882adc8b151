internal import Glibc
internal import KeyValue
internal import LMDB
internal import Raft
internal import RaftStorage

/// Examines a whole data directory while no node uses it: the log, the state and the snapshots, each by itself and against the others.
package enum DataDirectory {
    /// What is examined at the moment, and how much of it is done.
    package typealias Progress = (_ part: String, _ done: UInt64, _ total: UInt64) -> Void

    /// Examines what is in `directory`. Nothing is changed.
    ///
    /// Throws ``ExaminationError`` when it cannot be examined: there is no data, a node uses it, or it cannot be read.
    package static func examine(
        _ directory: String,
        progress: Progress? = nil
    ) throws(ExaminationError) -> DirectoryReport {
        let names = try requireData(directory)
        return try translating {
            let log = try LogStore.examine(directory: directory + "/log") { progress?("log", $0, $1) }
            let state = try Store.examine(directory: directory + "/state", progress: { progress?("state", $0, $1) })
            let contents = SnapshotContents(schema: Store.snapshotSchema) { header, read in
                try Store.verifySnapshot(index: header.position.index, term: header.position.term, from: read)
            }
            let snapshots = try SnapshotStore.examine(directory: directory + "/snapshots", contents: contents) {
                progress?("snapshots", $0, 0)
            }
            var report = DirectoryReport(directory: directory, log, state, snapshots)
            if names.contains("quarantine"),
                let bytes = try DurableFile.read("quarantine", in: directory)
            {
                report.addQuarantine(String(decoding: bytes, as: UTF8.self), log)
            }
            let known: Set = ["log", "state", "snapshots", "quarantine"]
            report.leftovers += names.filter { !known.contains($0) }
            return report
        }
    }

    /// Hands every item of the state to `write` that is as it was written; what nothing else can be had from may still be read.
    ///
    /// Entries of the log behind the last flush are not in it.
    package static func salvage(
        _ directory: String,
        progress: Progress? = nil,
        write: (_ key: ArraySlice<UInt8>, _ value: ArraySlice<UInt8>, _ contentType: String?) throws -> Void
    ) throws -> Salvage {
        _ = try requireData(directory)
        var failure: (any Error)?
        let findings: StateFindings = try withoutActuallyEscaping(write) { write in
            try translating {
                try Store.examine(
                    directory: directory + "/state",
                    progress: { progress?("state", $0, $1) },
                    visit: { item in
                        guard failure == nil else { return }
                        do { try write(item.key, item.value, item.contentType) } catch { failure = error }
                    }
                )
            }
        }
        if let failure { throw failure }
        let log = try translating { try LogStore.examine(directory: directory + "/log") }
        return Salvage(findings, log)
    }

    private static func requireData(_ directory: String) throws(ExaminationError) -> [String] {
        let names: [String]
        do throws(LMDBError) {
            names = try fileNames(in: directory)
        } catch {
            throw ExaminationError("\(directory) cannot be read: \(String(cString: strerror(error.code.rawValue)))")
        }
        guard names.contains("log") || names.contains("state") else {
            throw ExaminationError(
                "\(directory) holds no data of a node; name the directory that --data of kontiki serve names"
            )
        }
        return names
    }

    private static func translating<Result>(_ body: () throws -> Result) throws(ExaminationError) -> Result {
        do {
            return try body()
        } catch let error as StorageError {
            throw ExaminationError(error.code == .inUse ? "a node uses it: \(error.message)" : error.message)
        } catch let error as LMDBError {
            throw ExaminationError(error.isInUse ? "a node uses it: \(error)" : "\(error)")
        } catch {
            throw ExaminationError("\(error)")
        }
    }
}

/// Why a directory could not be examined.
package struct ExaminationError: Error, Hashable, Sendable, CustomStringConvertible {
    package var description: String

    init(_ description: String) { self.description = description }
}

/// What was saved of a state.
package struct Salvage: Sendable {
    /// Items that were handed out, and how many the state should have, where its record can be read.
    package var items: UInt64
    package var expectedItems: UInt64?
    /// Items that are there, but not as they were written.
    package var corruptItems: UInt64
    /// What the state holds: everything up to this entry of the log, and this revision.
    package var index: UInt64
    package var revision: UInt64
    /// The last readable entry of the log: what was written between the two is not in it.
    package var lastLogIndex: UInt64
    package var damages: [String]

    init(_ state: StateFindings, _ log: LogFindings) {
        items = state.keyCount
        expectedItems = state.expectedKeyCount
        corruptItems = state.corruptItems
        (index, revision) = (state.mark.index, state.mark.revision)
        lastLogIndex = log.last.index
        damages = state.damages
    }
}
