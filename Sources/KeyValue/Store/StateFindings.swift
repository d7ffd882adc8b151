internal import LMDB

/// What an examination of a state's directory found, without opening it.
public struct StateFindings: Sendable {
    /// There is no state in the directory.
    public var isMissing = false
    /// A newer version of the program wrote it, which this one cannot judge.
    public var isNewer = false
    /// What is wrong, for people.
    public var damages: [String] = []
    public var notes: [String] = []
    /// The generation that counts; nil when the pointer to it does not tell.
    public var generation: UInt64?
    /// Where the state stands.
    public var mark = StateMark()
    /// Items whose checksums are right, with the bytes of their keys and values.
    public var keyCount: UInt64 = 0
    public var contentBytes: UInt64 = 0
    /// Items whose checksums are wrong.
    public var corruptItems: UInt64 = 0
    /// How many items there should be; nil when the record of the state cannot be read.
    public var expectedKeyCount: UInt64?
    /// States that were set aside before.
    public var setAside: [String] = []

    public var isSound: Bool { damages.isEmpty && !isNewer && !isMissing }
}

extension Store {
    /// Examines the state in `directory` and verifies every record of it, without opening it. It must not be in use; its lock is
    /// taken. `visit` is called for each item that is as it was written, in the order of the keys, when their order is not damaged.
    public static func examine(
        directory path: String,
        progress: ((_ done: UInt64, _ total: UInt64) -> Void)? = nil,
        visit: ((Item) -> Void)? = nil
    ) throws -> StateFindings {
        let directory = StateDirectory(path: path)
        var findings = StateFindings()
        guard directory.exists else {
            findings.isMissing = true
            return findings
        }
        findings.setAside = try directory.setAsideNames()
        let present = try directory.generations()
        do {
            findings.generation = try directory.readPointer()
        } catch let error as StoreError where error.code == .inconsistentDirectory {
            findings.damages.append("the file \(StateDirectory.pointerName) is malformed")
        }
        if let named = findings.generation, !present.contains(named) {
            findings.damages.append("\(StateDirectory.pointerName) names state.\(named), which is not there")
            findings.generation = nil
        }
        guard let number = findings.generation ?? present.last else {
            findings.isMissing = findings.damages.isEmpty
            return findings
        }
        if findings.generation == nil, findings.damages.isEmpty, present != [1] {
            findings.damages.append("there is no file \(StateDirectory.pointerName) that says which state counts")
        }
        for other in present where other != number {
            findings.notes.append("state.\(other) is left of an unfinished restore")
        }
        try findings.examine(directory.path(ofGeneration: number), progress, visit)
        return findings
    }

    /// Gives the state in `directory` another name, and answers it: the next ``open(directory:options:)`` begins with an empty one. One such
    /// is kept, with a note that says what was wrong. It must not be in use.
    public static func setAside(directory path: String, because reason: String) throws -> String {
        try StateDirectory(path: path).setAside(because: reason)
    }
}

extension StateFindings {
    fileprivate mutating func examine(
        _ generation: String,
        _ progress: ((UInt64, UInt64) -> Void)?,
        _ visit: ((Item) -> Void)?
    ) throws {
        guard try DataFile.exists(directory: generation) else {
            damages.append("there is no data.mdb in \(generation)")
            return
        }
        let lock = try DirectoryLock(directory: generation)
        defer { lock.release() }
        let found = try Backend.examine(path: generation, progress: progress) { key, record in
            if let visit, let item = record.item(key: key) { visit(item) }
        }
        damages += found.all.map(\.description)
        notes += found.report.notes
        if found.report.correction != nil {
            notes.append("the records prove the transaction number; the next start puts it right")
        }
        (keyCount, contentBytes, corruptItems) = (found.keyCount, found.contentBytes, found.corruptItems)
        guard found.hasRecord else { return }
        if found.otherFormat?.code == .newerFormat {
            isNewer = true
        } else if let record = found.record {
            mark = record.mark
            expectedKeyCount = record.keyCount
        }
    }
}
