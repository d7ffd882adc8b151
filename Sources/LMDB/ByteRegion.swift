/// What can be a key or a value: it shows its bytes in one piece.
///
/// A `UInt64` shows itself in the machine's byte order, which is what a database with integer keys orders by.
package protocol ByteRegion {
    func withRegion<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result
}

extension UnsafeRawBufferPointer: ByteRegion {
    @inlinable
    package func withRegion<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(self)
    }
}

extension [UInt8]: ByteRegion {
    @inlinable
    package func withRegion<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeBufferPointer { (buffer) throws(Failure) in try body(UnsafeRawBufferPointer(buffer)) }
    }
}

extension ArraySlice<UInt8>: ByteRegion {
    @inlinable
    package func withRegion<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeBufferPointer { (buffer) throws(Failure) in try body(UnsafeRawBufferPointer(buffer)) }
    }
}

extension UInt64: ByteRegion {
    @inlinable
    package func withRegion<Result, Failure: Error>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try withUnsafeBytes(of: self) { (bytes) throws(Failure) in try body(bytes) }
    }
}
