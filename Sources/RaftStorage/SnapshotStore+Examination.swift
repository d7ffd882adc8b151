internal import LMDB
internal import Raft

/// One file in the directory of snapshots, read to its end.
package struct SnapshotFinding: Sendable {
    package enum Kind: Sendable {
        case snapshot
        /// A transfer from another server that has not come to its end; it is resumed or given up.
        case incoming
        /// What a crash left of one that was being written; the next start removes it.
        case temporary
        /// One that was set aside before.
        case setAside
    }

    package var name: String
    package var kind: Kind
    package var size: UInt64
    /// Of a snapshot whose header can be read.
    package var header: SnapshotHeader?
    /// What is wrong, for people; nil when all is as it was written.
    package var damage: String?
}

extension SnapshotStore {
    private static let setAsideSuffix = ".damaged"

    /// Reads every file in `directory`; empty when there is no such directory. Changes nothing. With `contents`, a snapshot must hold a
    /// state that could be loaded, too.
    package static func examine(
        directory: String,
        contents: SnapshotContents? = nil,
        progress: ((_ bytes: UInt64) -> Void)? = nil
    ) throws(StorageError) -> [SnapshotFinding] {
        try storing {
            guard File.exists(directory) else { return [] }
            var done: UInt64 = 0
            return try fileNames(in: directory).compactMap { name in
                let file = try File.read(directory + "/" + name)
                var finding = SnapshotFinding(name: name, kind: .snapshot, size: try file.size())
                if name.hasSuffix(temporarySuffix) {
                    finding.kind = .temporary
                } else if name.hasSuffix(incomingSuffix) {
                    finding.kind = .incoming
                } else if name.hasSuffix(setAsideSuffix) {
                    finding.kind = .setAside
                } else if !name.hasSuffix(suffix) {
                    return nil
                }
                guard finding.kind == .snapshot else { return finding }
                do {
                    let reader = try storing { try SnapshotReader(file: file) }
                    finding.header = reader.header
                    guard name == reader.descriptor.fileName + suffix else {
                        throw StorageError(.corrupt, "it holds another snapshot than its name says")
                    }
                    try reader.verify(contents) { bytes in
                        done += UInt64(bytes)
                        progress?(done)
                    }
                } catch let error as StorageError where error.code != .failed {
                    finding.damage = error.message
                }
                return finding
            }
        }
    }

    /// Reads a snapshot to its end and throws unless everything is as it was written, and a state could be loaded from it.
    package func verify(_ descriptor: SnapshotDescriptor) throws(StorageError) {
        try open(descriptor).verify(contents) { _ in try requireTime() }
    }

    /// Nobody waits for what is verified once the node stops.
    func requireTime() throws(StorageError) {
        guard !isHurried else { throw StorageError(.stopped, "this server stops") }
    }

    /// Gives a damaged snapshot a name under which nothing looks for it, and answers that name; nil when it is gone already. One such file is
    /// kept, for people to look at.
    @discardableResult
    package func setAside(_ descriptor: SnapshotDescriptor) throws(StorageError) -> String? {
        try setAside(fileName: descriptor.fileName + Self.suffix)
    }

    private func setAside(fileName name: String) throws(StorageError) -> String? {
        do {
            return try storing {
                try changingNames {
                    try File.rename("\(directory)/\(name)", to: "\(directory)/\(name)\(Self.setAsideSuffix)")
                    for old in try fileNames(in: directory)
                    where old.hasSuffix(Self.setAsideSuffix) && old != name + Self.setAsideSuffix {
                        try File.remove(directory + "/" + old)
                    }
                    return name + Self.setAsideSuffix
                }
            }
        } catch  where error.code == .missing {
            return nil
        }
    }

    /// Sets every snapshot aside whose header or trailer is damaged; answers what was wrong with each.
    package func setDamagedAside() throws(StorageError) -> [StorageError] {
        var errors: [StorageError] = []
        for (name, error) in try scanFiles().damaged where error.code == .corrupt {
            let kept = try setAside(fileName: name).map { " (it is now called \($0))" } ?? ""
            errors.append(StorageError(.corrupt, error.message + kept))
        }
        return errors
    }
}
