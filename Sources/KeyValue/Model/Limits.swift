/// The bounds of keys and values that every replica holds a command against.
///
/// They are a part of the apply rules: changing one changes what a replicated entry means.
public enum KeyValueLimits {
    /// The longest key, in bytes. LMDB takes 511; the rest is room for prefixes of later formats.
    public static let maximumKeyLength = 480
    /// The longest content type, in bytes of UTF-8.
    public static let maximumContentTypeLength = 255
}
