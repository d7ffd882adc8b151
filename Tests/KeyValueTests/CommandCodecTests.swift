import Testing

@testable import KeyValue

@Suite struct CommandCodecTests {
    @Test("Every command comes back from its bytes")
    func roundTrip() throws {
        var generator = SeededGenerator(seed: 1)
        for timestamp in 0..<2_000 as Range<UInt64> {
            let command = Command.random(using: &generator, latestRevision: timestamp)
            let bytes = command.encode(timestampMilliseconds: timestamp)
            if let reason = command.validate() {
                #expect(throws: reason) { try Command.decode(bytes) }
                continue
            }
            let decoded = try Command.decode(bytes)
            #expect(decoded.command == command)
            #expect(decoded.timestampMilliseconds == timestamp)
            var stamped = bytes
            Command.stamp(&stamped, timestampMilliseconds: .max)
            #expect(try Command.decode(stamped).timestampMilliseconds == .max)
            #expect(try Command.decode(stamped).command == command)
        }
    }

    @Test("A decoded key and value are slices of the payload")
    func noCopies() throws {
        let payload = Command.put(key: "key".bytes, value: "value".bytes).encode(timestampMilliseconds: 0)
        guard case .put(let put) = try Command.decode(payload).command else {
            Issue.record("not a put")
            return
        }
        let (keyAddress, valueAddress) = (
            put.key.withUnsafeBytes { $0.baseAddress }, put.value.withUnsafeBytes { $0.baseAddress }
        )
        payload.withUnsafeBytes {
            #expect($0.baseAddress?.advanced(by: 33) == keyAddress)
            #expect($0.baseAddress?.advanced(by: 36) == valueAddress)
        }
    }

    @Test("Any bytes are decoded or refused, and what is decoded encodes to the same bytes", arguments: 0..<4)
    func fuzz(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for round in 0..<5_000 {
            var bytes = Command.random(using: &generator, latestRevision: 9).encode(timestampMilliseconds: 7)
            if bytes.count > 600 { bytes.removeSubrange(200..<bytes.count) }
            if round.isMultiple(of: 3) { bytes = Array(bytes.prefix(Int.random(in: 0...40, using: &generator))) }
            for _ in 0..<Int.random(in: 0..<4, using: &generator) where !bytes.isEmpty {
                let offset = Int.random(in: 0..<min(40, bytes.count), using: &generator)
                bytes[offset] = Bool.random(using: &generator) ? UInt8.random(in: 0...255, using: &generator) : 0xff
            }
            guard let decoded = try? Command.decode(bytes) else { continue }
            #expect(decoded.command.validate() == nil)
            #expect(decoded.command.encode(timestampMilliseconds: decoded.timestampMilliseconds) == bytes)
        }
    }

    @Test("Refusals tell what is wrong")
    func refusals() {
        func refusal(_ command: Command, _ change: (inout [UInt8]) -> Void = { _ in }) -> InvalidCommand? {
            var bytes = command.encode(timestampMilliseconds: 0)
            change(&bytes)
            do throws(InvalidCommand) {
                _ = try Command.decode(bytes)
                return nil
            } catch {
                return error
            }
        }
        let put = Command.put(key: "k".bytes, value: "v".bytes)
        #expect(refusal(put) == nil)
        #expect(refusal(put) { $0 = [] } == .malformed)
        #expect(refusal(put) { $0[0] = 1 } == .unknownVersion)
        #expect(refusal(put) { $0[1] = 99 } == .unknownOperation)
        #expect(refusal(put) { $0[2] = 32 } == .unknownFlag)
        #expect(refusal(put) { $0[32] = 2 } == .malformed)
        #expect(refusal(put) { $0[13] = 200 } == .malformed)
        #expect(refusal(put) { $0.append(0) } == .malformed)
        #expect(refusal(put) { $0.removeLast() } == .malformed)
        #expect(refusal(.put(key: [], value: [])) == .keyEmpty)
        #expect(refusal(.delete(key: [UInt8](repeating: 1, count: 481)[...])) == .keyTooLong)
        #expect(refusal(.delete(key: [UInt8](repeating: 1, count: 480)[...])) == nil)
        #expect(refusal(.deletePrefix([])) == nil)
        let long = String(repeating: "x", count: 256)
        #expect(refusal(.put(key: [1], value: [], contentType: long)) == .contentTypeTooLong)
        let longer = String(repeating: "x", count: 70_000)
        #expect(refusal(.put(key: [1], value: [], contentType: longer)) == .malformed)
    }
}
