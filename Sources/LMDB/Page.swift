internal import Glibc

/// A branch or leaf page in memory, whose shape is checked before anything in it is used.
struct Page {
    enum Kind: UInt16 {
        case branch = 1
        case leaf = 2
    }

    /// A key with what belongs to it, in place.
    struct Node {
        var key: UnsafeRawBufferPointer
        /// Of a leaf: flags, the bytes in the page, and the value's length.
        var flags: UInt16
        var data: UnsafeRawBufferPointer
        var length: Int
        /// Of a branch.
        var child: UInt64
    }

    static let nodeHeaderSize = 8
    static let overflowFlag: UInt16 = 4
    static let bigData: UInt16 = 1
    static let subData: UInt16 = 2

    let bytes: UnsafeRawPointer
    let size: Int
    private(set) var count = 0
    private(set) var isLeaf = false

    init(_ buffer: UnsafeMutableRawBufferPointer) {
        // A buffer of a page's size has an address.
        bytes = UnsafeRawPointer(buffer.baseAddress!)
        size = buffer.count
    }

    @inline(__always)
    private func load<Value: BitwiseCopyable>(_ offset: Int, _: Value.Type) -> Value {
        bytes.loadUnaligned(fromByteOffset: offset, as: Value.self)
    }

    /// Checks number, flags and bounds, and that the nodes fill the page from `upper` on without gap or overlap.
    ///
    /// `slots` has one element for each two bytes of a page, all 0, and is so again on return.
    mutating func check(number: UInt64, slots: UnsafeMutablePointer<UInt16>) throws(Damage) {
        guard load(0, UInt64.self) == number else {
            throw Damage(.page, page: number, "it says that it is page \(load(0, UInt64.self))")
        }
        guard let kind = Kind(rawValue: load(10, UInt16.self)) else {
            throw Damage(.page, page: number, "it is neither a branch nor a leaf (flags \(load(10, UInt16.self)))")
        }
        isLeaf = kind == .leaf
        let (lower, upper) = (Int(load(12, UInt16.self)), Int(load(14, UInt16.self)))
        guard lower >= DataFile.headerSize, lower & 1 == 0, lower <= upper, upper <= size else {
            throw Damage(.page, page: number, "its bounds are wrong (\(lower), \(upper))")
        }
        count = (lower - DataFile.headerSize) >> 1
        guard count > 0 else { throw Damage(.page, page: number, "it is empty") }
        var failure: Damage?
        var marked = 0
        while marked < count {
            let offset = Int(load(DataFile.headerSize + 2 * marked, UInt16.self))
            guard offset & 1 == 0, offset >= upper, offset + Self.nodeHeaderSize <= size else {
                failure = Damage(.page, page: number, "record \(marked) lies at \(offset), outside of its place")
                break
            }
            let length = nodeSize(at: offset)
            guard length <= size - offset, slots[offset >> 1] == 0 else {
                failure = Damage(.node, page: number, "record \(marked) has a size or a place that cannot be")
                break
            }
            slots[offset >> 1] = UInt16(length)
            marked += 1
        }
        if failure == nil {
            var (offset, seen) = (upper, 0)
            while offset < size, slots[offset >> 1] != 0 {
                offset += Int(slots[offset >> 1])
                seen += 1
            }
            if offset != size || seen != count {
                failure = Damage(.node, page: number, "its records overlap or leave a gap")
            }
        }
        for index in 0..<marked { slots[Int(load(DataFile.headerSize + 2 * index, UInt16.self)) >> 1] = 0 }
        if let failure { throw failure }
    }

    /// The even number of bytes that the node at `offset` takes in the page.
    private func nodeSize(at offset: Int) -> Int {
        let keyLength = Int(load(offset + 6, UInt16.self))
        var size = Self.nodeHeaderSize + keyLength
        if isLeaf {
            let isBig = load(offset + 4, UInt16.self) & Self.bigData != 0
            size += isBig ? 8 : Int(load(offset, UInt16.self)) | Int(load(offset + 2, UInt16.self)) << 16
        }
        return (size + 1) & ~1
    }

    /// A node of a page whose shape was checked.
    @inline(__always)
    func node(_ index: Int) -> Node {
        let offset = Int(load(DataFile.headerSize + 2 * index, UInt16.self))
        let low = UInt64(load(offset, UInt32.self))
        let flags = load(offset + 4, UInt16.self)
        let keyLength = Int(load(offset + 6, UInt16.self))
        let start = bytes + offset + Self.nodeHeaderSize
        let inPage = !isLeaf ? 0 : flags & Self.bigData != 0 ? 8 : Int(low)
        return Node(
            key: UnsafeRawBufferPointer(start: start, count: keyLength),
            flags: flags,
            data: UnsafeRawBufferPointer(start: start + keyLength, count: inPage),
            length: Int(low),
            child: low | UInt64(flags) << 32
        )
    }
}

extension UnsafeRawBufferPointer {
    /// LMDB's order of keys: by bytes, shorter first; integers as numbers. Negative, 0 or positive.
    @inline(__always)
    func ordered(to other: UnsafeRawBufferPointer, asIntegers: Bool) -> Int {
        if asIntegers {
            let (one, two) = (loadUnaligned(as: UInt64.self), other.loadUnaligned(as: UInt64.self))
            return one < two ? -1 : one == two ? 0 : 1
        }
        let common = Swift.min(count, other.count)
        if common > 0, let one = baseAddress, let two = other.baseAddress {
            let order = memcmp(one, two, common)
            if order != 0 { return Int(order) }
        }
        return count - other.count
    }
}
