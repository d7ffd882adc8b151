internal import Glibc
internal import LMDB

/// The disk below one directory in the course of a trace: what is durable, and what is not yet.
///
/// Nothing is taken for granted beyond POSIX: a file's sync makes its content and length durable and no name; a directory's sync makes
/// its names durable and nothing else; between files, directories and sectors there is no order.
package final class DiskState {
    enum Node {
        case file(DiskFile)
        case directory(DiskDirectory)
    }

    /// A name is given or taken; a rename is two of them at once.
    final class DiskDirectory {
        struct Change {
            let sequence: UInt64
            /// Nil takes the name away.
            let effects: [(name: String, node: Node?)]
        }

        var names: [String: Node] = [:]
        var changes: [Change] = []
        /// The names with all changes.
        var present: [String: Node] = [:]

        func change(_ sequence: UInt64, _ effects: [(name: String, node: Node?)]) {
            changes.append(Change(sequence: sequence, effects: effects))
            for (name, node) in effects { present[name] = node }
        }

        func synchronized(before sequence: UInt64) {
            while let first = changes.first, first.sequence < sequence {
                for (name, node) in first.effects { names[name] = node }
                changes.removeFirst()
            }
        }
    }

    /// From now on no sync makes anything durable: what a test takes to see that this is noticed.
    package var ignoresSyncs = false
    private let root = DiskDirectory()
    /// By inode, as long as the trace may mean it.
    private var files: [UInt64: DiskFile] = [:]
    private var directories: [DiskDirectory]
    private var allFiles: [DiskFile] = []
    private var lastNumber: UInt64 = 0
    /// What a sync under way will have made durable when it ends.
    private var syncs: [UInt64: Sync] = [:]

    private enum Sync {
        case file(DiskFile)
        case directory(DiskDirectory)
        case write(DiskFile)
    }

    /// - Parameter base: what lay in the directory when the recording began; all of it durable. Nil for nothing.
    package init(base: String? = nil) throws {
        directories = [root]
        if let base { try load(base, into: root) }
    }

    private func load(_ path: String, into directory: DiskDirectory) throws {
        for name in try fileNames(in: path) {
            let child = path + "/" + name
            if isDirectory(child) {
                let node = makeDirectory()
                try load(child, into: node)
                directory.names[name] = .directory(node)
            } else {
                let isIrrelevant = Self.isIrrelevant(name)
                let content = isIrrelevant ? [] : try readFile(child)
                lastNumber += 1
                let file = DiskFile(number: lastNumber, isIrrelevant: isIrrelevant, content: content)
                allFiles.append(file)
                directory.names[name] = .file(file)
            }
        }
        directory.present = directory.names
    }

    /// LMDB makes its lock file anew when nobody has it open, and the other is locked, not read.
    private static func isIrrelevant(_ name: String) -> Bool { name == "LOCK" || name == "lock.mdb" }

    private func makeDirectory() -> DiskDirectory {
        let directory = DiskDirectory()
        directories.append(directory)
        return directory
    }

    // MARK: What happens

    /// Goes one record on. What the trace says of things that it has not told of is left out.
    package func advance(_ record: Trace.Record) {
        let sequence = record.sequence
        switch record.event {
        case .write(let file, let offset, let bytes, let isSynchronous):
            guard let file = files[file] else { return }
            file.write(bytes, at: offset, sequence: sequence)
            if isSynchronous { syncs[sequence] = .write(file) }
        case .syncBegan(let file, let path, let isDirectory):
            if isDirectory {
                if case .directory(let directory)? = find(path) { syncs[sequence] = .directory(directory) }
            } else if let file = files[file] {
                syncs[sequence] = .file(file)
            }
        case .syncEnded(let reference, let error):
            guard let sync = syncs.removeValue(forKey: reference), error == 0, !ignoresSyncs else { return }
            switch sync {
            case .file(let file): file.synchronized(before: reference)
            case .directory(let directory): directory.synchronized(before: reference)
            case .write(let file): file.synchronized(write: reference)
            }
        case .truncated(let file, let size): files[file]?.truncate(to: size, sequence: sequence)
        case .opened(let number, let path, _, let isDirectory):
            if !isDirectory, case .file(let file)? = find(path) { files[number] = file }
        case .note: break
        default: advanceNames(record.event, sequence)
        }
    }

    private func advanceNames(_ event: TraceEvent, _ sequence: UInt64) {
        switch event {
        case .created(let number, let path):
            guard let (directory, name) = parent(of: path) else { return }
            lastNumber += 1
            let file = DiskFile(number: lastNumber, isIrrelevant: Self.isIrrelevant(name))
            allFiles.append(file)
            files[number] = file
            directory.change(sequence, [(name, .file(file))])
        case .renamed(let from, let to):
            guard let (source, old) = parent(of: from), let (target, new) = parent(of: to) else { return }
            guard let node = source.present[old] else { return }
            if source === target {
                source.change(sequence, [(old, nil), (new, node)])
            } else {
                source.change(sequence, [(old, nil)])
                target.change(sequence, [(new, node)])
            }
        case .linked(let from, let to):
            guard let node = find(from), let (target, new) = parent(of: to) else { return }
            target.change(sequence, [(new, node)])
        case .unlinked(let path), .removedDirectory(let path):
            if let (directory, name) = parent(of: path) { directory.change(sequence, [(name, nil)]) }
        case .madeDirectory(let path):
            if let (directory, name) = parent(of: path) {
                directory.change(sequence, [(name, .directory(makeDirectory()))])
            }
        default: break
        }
    }

    private func find(_ path: String) -> Node? {
        var node = Node.directory(root)
        for part in path.split(separator: "/") {
            guard case .directory(let directory) = node, let next = directory.present[String(part)] else { return nil }
            node = next
        }
        return node
    }

    private func parent(of path: String) -> (DiskDirectory, name: String)? {
        let parts = path.split(separator: "/")
        guard let name = parts.last else { return nil }
        guard case .directory(let directory)? = find(parts.dropLast().joined(separator: "/")) else { return nil }
        return (directory, String(name))
    }

    // MARK: Images

    /// How many changes are not durable.
    package var pendingChanges: Int {
        allFiles.reduce(0) { $0 + $1.changes.count { !$0.isDurable } } + directories.reduce(0) { $0 + $1.changes.count }
    }

    /// What the power cut number `number` at this point leaves.
    package func image(number: Int, seed: UInt64) -> DiskImage {
        var choice = CutChoice(number: number, count: pendingChanges, seed: seed)
        // In one order, so that the numbers mean the same changes again.
        var contents: [UInt64: DiskFile.Image] = [:]
        for file in allFiles where !file.isIrrelevant { contents[file.number] = file.image(&choice) }
        var names: [ObjectIdentifier: [String: Node]] = [:]
        for directory in directories {
            var kept = directory.names
            for change in directory.changes where choice.nextWhole() {
                for (name, node) in change.effects { kept[name] = node }
            }
            names[ObjectIdentifier(directory)] = kept
        }
        var image = DiskImage()
        collect(root, "", names, contents, into: &image)
        return image
    }

    private func collect(
        _ directory: DiskDirectory,
        _ prefix: String,
        _ names: [ObjectIdentifier: [String: Node]],
        _ contents: [UInt64: DiskFile.Image],
        into image: inout DiskImage
    ) {
        for (name, node) in names[ObjectIdentifier(directory)] ?? [:] {
            let path = prefix.isEmpty ? name : prefix + "/" + name
            switch node {
            case .file(let file):
                guard let content = contents[file.number] else { continue }
                image.files.append((path, content))
                image.hash &+= mix(mix(stableHash(path), UInt64(content.size)), content.hash)
            case .directory(let child):
                image.directories.append(path)
                image.hash &+= stableHash(path)
                collect(child, path, names, contents, into: &image)
            }
        }
    }
}

/// What lies on the disk after a power cut.
package struct DiskImage {
    var directories: [String] = []
    var files: [(path: String, content: DiskFile.Image)] = []
    /// The same for the same content.
    package var hash: UInt64 = 0

    /// Writes it into a new directory.
    package func write(to directory: String) throws {
        try makeNewDirectory(directory)
        for path in directories.sorted() { try makeNewDirectory(directory + "/" + path) }
        for (path, content) in files {
            let file = directory + "/" + path
            let descriptor = Glibc.open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            guard descriptor >= 0 else { throw FileFailure("open", file) }
            defer { Glibc.close(descriptor) }
            guard ftruncate(descriptor, off_t(content.size)) == 0 else { throw FileFailure("ftruncate", file) }
            for (page, bytes) in content.pages {
                let offset = page * DiskFile.pageSize
                let count = min(bytes.count, content.size - offset)
                guard count > 0 else { continue }
                guard pwrite(descriptor, bytes, count, off_t(offset)) == count else {
                    throw FileFailure("pwrite", file)
                }
            }
        }
    }
}
