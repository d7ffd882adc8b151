import NIOCore

/// Writes JSON (RFC 8259) straight into a buffer, in the order in which it is told.
///
/// The caller pairs the `begin`s and `end`s. Kept apart from `JSONEncoder` because listings and problem documents are built on event
/// loops, where one pass without intermediate values is what fits.
struct JSONWriter {
    private(set) var buffer: ByteBuffer
    /// Whether the next element of the object or array that is open needs a comma in front.
    private var needsComma = false

    init(capacity: Int = 256) {
        buffer = ByteBuffer()
        buffer.reserveCapacity(capacity)
    }

    /// Bytes written so far.
    var count: Int { buffer.readableBytes }

    /// Ends a line of several that are a JSON text each.
    mutating func endLine() {
        buffer.writeInteger(UInt8(ascii: "\n"))
        needsComma = false
    }

    /// What was written so far; goes on with nothing.
    mutating func takeBuffer() -> ByteBuffer {
        let taken = buffer
        buffer = ByteBuffer()
        buffer.reserveCapacity(taken.capacity)
        return taken
    }

    /// Goes on, in a buffer of its own, behind the element with which another writer stopped.
    mutating func resumeBehindElement() {
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { buffer.writeInteger(UInt8(ascii: ",")) }
        needsComma = true
    }

    mutating func beginObject() {
        separate()
        buffer.writeInteger(UInt8(ascii: "{"))
        needsComma = false
    }

    mutating func endObject() {
        buffer.writeInteger(UInt8(ascii: "}"))
        needsComma = true
    }

    mutating func beginArray() {
        separate()
        buffer.writeInteger(UInt8(ascii: "["))
        needsComma = false
    }

    mutating func endArray() {
        buffer.writeInteger(UInt8(ascii: "]"))
        needsComma = true
    }

    /// The name of the next member of an object.
    mutating func name(_ name: StaticString) {
        separate()
        buffer.writeInteger(UInt8(ascii: "\""))
        buffer.writeStaticString(name)
        buffer.writeStaticString("\":")
        needsComma = false
    }

    /// The name of the next member of an object, where it is not known to the compiler.
    mutating func name(_ name: String) {
        value(name)
        buffer.writeInteger(UInt8(ascii: ":"))
        needsComma = false
    }

    /// A number as it is to stand there.
    mutating func number(_ text: String) {
        separate()
        buffer.writeString(text)
    }

    mutating func value(_ value: some BinaryInteger) {
        separate()
        buffer.writeString(String(value))
    }

    mutating func value(_ value: Bool) {
        separate()
        buffer.writeStaticString(value ? "true" : "false")
    }

    mutating func null() {
        separate()
        buffer.writeStaticString("null")
    }

    mutating func value(_ value: String) {
        var value = value
        separate()
        value.withUTF8 { writeQuoted(UnsafeRawBufferPointer($0)) }
    }

    /// Bytes that are UTF-8 already.
    mutating func value(utf8 bytes: UnsafeRawBufferPointer) {
        separate()
        writeQuoted(bytes)
    }

    mutating func member(_ name: StaticString, _ value: String) {
        self.name(name)
        self.value(value)
    }

    mutating func member(_ name: StaticString, _ value: some BinaryInteger) {
        self.name(name)
        self.value(value)
    }

    mutating func member(_ name: StaticString, _ value: Bool) {
        self.name(name)
        self.value(value)
    }

    /// Under `text` when the bytes are UTF-8, else as Base64 under `base64`.
    mutating func bytes(_ bytes: some Collection<UInt8>, text: StaticString, base64: StaticString) {
        let array = Array(bytes)
        if String(validating: array, as: UTF8.self) != nil {
            name(text)
            array.withUnsafeBytes { value(utf8: $0) }
        } else {
            name(base64)
            separate()
            buffer.writeInteger(UInt8(ascii: "\""))
            buffer.writeBytes(Base64.encode(array))
            buffer.writeInteger(UInt8(ascii: "\""))
        }
    }

    private mutating func writeQuoted(_ bytes: UnsafeRawBufferPointer) {
        buffer.writeInteger(UInt8(ascii: "\""))
        var start = 0
        for (offset, byte) in bytes.enumerated() where byte < 0x20 || byte == 0x22 || byte == 0x5C {
            buffer.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[start..<offset]))
            start = offset + 1
            switch byte {
            case 0x22: buffer.writeStaticString("\\\"")
            case 0x5C: buffer.writeStaticString("\\\\")
            case 0x0A: buffer.writeStaticString("\\n")
            case 0x0D: buffer.writeStaticString("\\r")
            case 0x09: buffer.writeStaticString("\\t")
            default:
                buffer.writeStaticString("\\u00")
                let digits = String(byte, radix: 16)
                buffer.writeString(digits.utf8.count == 1 ? "0" + digits : digits)
            }
        }
        buffer.writeBytes(UnsafeRawBufferPointer(rebasing: bytes[start...]))
        buffer.writeInteger(UInt8(ascii: "\""))
    }
}
