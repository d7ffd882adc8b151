/// What the state knows of a key besides its value.
public struct ItemMetadata: Hashable, Sendable {
    /// The revision that created the key (anew after a delete).
    public var createRevision: UInt64
    /// The revision of the last change: the key's ETag.
    public var modRevision: UInt64
    /// How often the key was put since it was created; 1 after the first put.
    public var version: UInt64
    /// The lease that the key lives with; 0 for none.
    public var lease: UInt64

    public init(createRevision: UInt64, modRevision: UInt64, version: UInt64, lease: UInt64 = 0) {
        self.createRevision = createRevision
        self.modRevision = modRevision
        self.version = version
        self.lease = lease
    }
}

/// A key with its value and metadata, as it stood at one revision.
///
/// Key and value may be slices of one shared buffer: copy them when they are kept for long.
public struct Item: Hashable, Sendable {
    public var key: ArraySlice<UInt8>
    /// Empty in a page that was asked for with ``RangeQuery/keysOnly``.
    public var value: ArraySlice<UInt8>
    /// As it was given with the put; nil when none was.
    public var contentType: String?
    public var metadata: ItemMetadata

    public init(key: ArraySlice<UInt8>, value: ArraySlice<UInt8>, contentType: String?, metadata: ItemMetadata) {
        self.key = key
        self.value = value
        self.contentType = contentType
        self.metadata = metadata
    }

    public var createRevision: UInt64 { metadata.createRevision }
    public var modRevision: UInt64 { metadata.modRevision }
    public var version: UInt64 { metadata.version }
    /// 0 for none.
    public var lease: UInt64 { metadata.lease }

    /// Compares contents; where the slices lie in their buffers does not matter.
    public static func == (left: Item, right: Item) -> Bool {
        left.metadata == right.metadata && left.contentType == right.contentType
            && left.key.elementsEqual(right.key) && left.value.elementsEqual(right.value)
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(metadata)
        hasher.combine(key)
    }
}
