import Foundation

/// The files of a data directory, kept in memory, from which damaged copies are made.
struct Image {
    struct File {
        var path: String
        /// Without the zeros at the end.
        var bytes: [UInt8]
        var size: Int
    }

    private(set) var files: [File] = []
    private(set) var directories: [String] = []
    /// Where leases, locks, idempotency keys and what is deleted are named in the state and the snapshots.
    private(set) var places: [(file: Int, offset: Int)] = []

    init(reading directory: String) throws {
        let names = FileManager.default.enumerator(atPath: directory)?.compactMap { $0 as? String } ?? []
        for name in names.sorted() {
            var isDirectory: ObjCBool = false
            guard FileManager.default.fileExists(atPath: "\(directory)/\(name)", isDirectory: &isDirectory) else {
                continue
            }
            if isDirectory.boolValue {
                directories.append(name)
                continue
            }
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: "\(directory)/\(name)")))
            let used = (bytes.lastIndex { $0 != 0 } ?? -1) + 1
            files.append(
                File(
                    path: name,
                    bytes: Array(bytes[..<min(bytes.count, (used + 4095) / 4096 * 4096)]),
                    size: bytes.count
                )
            )
        }
        findPlaces()
    }

    /// Takes note of what ``Coordination`` has written.
    private mutating func findPlaces() {
        for (number, file) in files.enumerated() where !file.path.hasPrefix("log/") {
            let content = Data(file.bytes)
            for name in ["leased/", "short/", "lock/", "request-", "deleted/"] {
                var rest = 0..<content.count
                while let found = content.range(of: Data(name.utf8), in: rest) {
                    places.append((number, found.lowerBound))
                    rest = found.upperBound..<content.count
                }
            }
        }
    }

    /// Writes the files to `directory`, which is emptied first, with one of them changed.
    func write(to directory: String, _ damage: Damaging?) throws {
        try? FileManager.default.removeItem(atPath: directory)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        for name in directories {
            try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        for (index, file) in files.enumerated() {
            var bytes = file.bytes
            if let damage, damage.file == index {
                for (offset, byte) in damage.bytes.enumerated() where damage.offset + offset < bytes.count {
                    bytes[damage.offset + offset] = byte
                }
            }
            let descriptor = open("\(directory)/\(file.path)", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
            defer { close(descriptor) }
            guard descriptor >= 0, Foundation.write(descriptor, bytes, bytes.count) == bytes.count,
                ftruncate(descriptor, off_t(file.size)) == 0
            else { throw CocoaError(.fileWriteUnknown) }
        }
    }
}

/// A change of some bytes of one file, drawn from a seed.
struct Damaging: CustomStringConvertible {
    var file: Int
    var offset: Int
    /// What lies there afterwards.
    var bytes: [UInt8]
    private var text: String

    var description: String { text }

    /// The newest meta page of a data file tells a commit two older than it is: LMDB then takes the other one, and the last commit is
    /// gone, with an acknowledged write in it where the file is the log's.
    init?(hidingLastCommitOf path: String, image: Image) {
        guard let index = image.files.firstIndex(where: { $0.path == path }) else { return nil }
        let content = image.files[index].bytes
        let numbers = [0, 4096].map { page in
            content[page + 144..<page + 152].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        }
        let newest = numbers[0] > numbers[1] ? 0 : 1
        file = index
        offset = 4096 * newest + 144
        bytes = withUnsafeBytes(of: (numbers[newest] - 2).littleEndian) { Array($0) }
        text = "\(path) at \(offset): the last commit is hidden"
    }

    /// The damage with this number; the same for the same seed and image.
    init(seed: UInt64, number: Int, image: Image) {
        // Two that are always among them.
        for (reserved, path) in ["log/data.mdb", "state/state.1/data.mdb"].enumerated() where reserved == number {
            if let hidden = Damaging(hidingLastCommitOf: path, image: image) {
                self = hidden
                return
            }
        }
        var generator = Generator(state: seed &* 0x1_0000_0001 &+ UInt64(number) &* 0x9e37_79b9)
        let data = image.files.indices.filter { image.files[$0].path.hasSuffix("data.mdb") }
        let others = image.files.indices.filter { !data.contains($0) && !image.files[$0].bytes.isEmpty }
        let draw = Int.random(in: 0..<100, using: &generator)
        let named = draw % 10 == 0 ? image.places.randomElement(using: &generator) : nil
        file = named?.file ?? (draw < 85 ? data : others).randomElement(using: &generator) ?? 0
        let content = image.files[file].bytes
        if let named {
            offset = max(0, named.offset + Int.random(in: -40...40, using: &generator))
        } else if draw < 25 {
            offset = 4096 * Int.random(in: 0...1, using: &generator) + Int.random(in: 0..<152, using: &generator)
        } else if draw < 65 {
            // Pages that are, or were, branches, leaves or the first of some overflow pages: their heads, where most of what matters is.
            let pages = (2..<max(3, content.count / 4096)).filter { page in
                guard (page + 1) * 4096 <= content.count else { return false }
                return [1, 2, 4].contains(content[page * 4096 + 10]) && Int(content[page * 4096]) == page & 0xff
            }
            let inside = Int.random(in: 0..<(draw < 50 ? 64 : 4096), using: &generator)
            offset = (pages.randomElement(using: &generator) ?? 2) * 4096 + inside
        } else {
            offset = Int.random(in: 0..<content.count, using: &generator)
        }
        offset = min(offset, content.count - 1)
        let before = content[offset]
        let kind: String
        switch Int.random(in: 0..<100, using: &generator) {
        case ..<55:
            let bit = Int.random(in: 0..<8, using: &generator)
            bytes = [before ^ 1 << bit]
            kind = "bit \(bit)"
        case ..<75:
            bytes = (0..<Int.random(in: 2...8, using: &generator)).map { _ in .random(in: 0...255, using: &generator) }
            kind = "\(bytes.count) bytes"
        case ..<88:
            offset -= offset % 512
            bytes = [UInt8](repeating: 0, count: 512)
            kind = "a sector of zeros"
        default:
            offset -= offset % 4096
            bytes = [UInt8](repeating: 0, count: 4096)
            kind = "a page of zeros"
        }
        text = "\(image.files[file].path) at \(offset): \(kind)"
    }
}

/// Numbers from a seed (SplitMix64).
struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
