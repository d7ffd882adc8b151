/// Kontiki's own format of recorded histories: a JSON object a line, one line when an operation begins and one when it
/// ends, in the order in which that happened.
///
///     {"process":0,"type":"invoke","f":"put","key":"a","value":"1"}
///     {"process":1,"type":"invoke","f":"get","key":"a"}
///     {"process":0,"type":"ok","f":"put","key":"a","revision":12}
///     {"process":1,"type":"ok","f":"get","key":"a","value":"1","revision":12}
///     {"process":1,"type":"invoke","f":"cas","key":"a","expected_revision":12,"value":"2"}
///     {"process":1,"type":"ok","f":"cas","key":"a","succeeded":false}
///
/// - `process`: who, a number from 0. A process has at most one operation under way.
/// - `type`: `invoke`; `ok`: done, and answered; `fail`: certainly not executed; `info`: the outcome is unknown.
/// - `f`: `get`, `put`, `delete`, `cas`, `incr` or `append`.
/// - `key`: a text.
/// - `value`: with `invoke` of put, cas and append what is written (for cas `null` deletes); with `ok` of get what was
///   read (`null`: no such key), and of incr the sum. A text, or a whole number, which is the same as its digits.
/// - `expected`: with `invoke` of cas, the value that must be there; `null`: none.
/// - `expected_revision`: in its place, the revision that must have written the value; 0: none.
/// - `by`: with `invoke` of incr; 1 if missing.
/// - `succeeded`: with `ok` of cas, false if the condition did not hold; true if missing.
/// - `revision`: with `ok`, the revision that the write made, or that wrote what was read; may be missing.
/// - `time`: nanoseconds; not looked at, because the order of the lines counts.
///
/// A line must be written before the request is sent, and after the answer has come. Keys begin as missing. An
/// operation that never ends is one of unknown outcome. A key that is appended to can only be read, put, deleted and
/// appended to.
package struct KontikiHistory: Sendable {
    /// The histories of the keys that are not appended to.
    package private(set) var keys: [[UInt8]: History<KeyValueModel>] = [:]
    /// The histories of the keys that are.
    package private(set) var appendedKeys: [[UInt8]: History<AppendModel<UInt8>>] = [:]

    fileprivate struct Request {
        var function: Function
        var key: [UInt8]
        var value: [UInt8]?
        var condition: Condition?
        var by: Int64 = 1
    }

    fileprivate enum Condition {
        case value([UInt8]?)
        case revision(UInt64)
    }

    fileprivate enum Function: String {
        case get, put, delete, cas, incr, append
    }

    private struct Answer {
        var value: [UInt8]?
        var revision: UInt64?
        var succeeded = true
    }

    private struct Recorded {
        var process: Int
        var start: Int
        var end: Int?
        var request: Request
        var answer: Answer?
    }

    private var texts: [[UInt8]: Int32] = [:]
    private var textList: [String] = []

    /// Reads a whole file.
    package init(_ bytes: [UInt8]) throws(MalformedHistory) {
        var operations: [Recorded] = []
        var pairing = Pairing<Request>()
        for (number, line) in Lines(bytes) where !line.isEmpty {
            do throws(MalformedLine) {
                if let operation = try Self.read(line, number, &pairing) { operations.append(operation) }
            } catch {
                throw MalformedHistory(line: number, error.reason)
            }
        }
        for (process, line, request) in pairing.rest {
            operations.append(Recorded(process: process, start: line, end: nil, request: request, answer: nil))
        }
        try distribute(operations)
    }

    /// An operation, if the line ends one that says something.
    private static func read(
        _ line: ArraySlice<UInt8>,
        _ number: Int,
        _ pairing: inout Pairing<Request>
    ) throws(MalformedLine) -> Recorded? {
        let object = try JSONObject(line)
        if let stranger = object.members.keys.sorted().first(where: { !members.contains($0) }) {
            throw MalformedLine("the member “\(stranger)” is not known")
        }
        _ = try object.integer("time")
        guard let process = try object.natural("process") else { throw MalformedLine("“process” is missing") }
        guard let typeName = try object.text("type").map({ String(decoding: $0, as: UTF8.self) }) else {
            throw MalformedLine("“type” is missing")
        }
        guard let type = EventType(rawValue: typeName) else {
            throw MalformedLine("the type “\(typeName)” is none of invoke, ok, fail and info")
        }
        let request = try Self.request(object, isInvocation: type == .invoke)
        if type == .invoke {
            try pairing.invoke(Int(process), request, line: number)
            return nil
        }
        let (start, begun) = try pairing.complete(Int(process))
        guard begun.function == request.function, begun.key == request.key else {
            throw MalformedLine("it ends the operation of line \(start), which is another one")
        }
        if type == .fail { return nil }
        var answer: Answer?
        if type == .ok {
            answer = Answer(
                value: try value(object, "value"),
                revision: try object.natural("revision"),
                succeeded: try object.boolean("succeeded") ?? true
            )
            if (begun.function == .get || begun.function == .incr) && !object.has("value") {
                throw MalformedLine("the answer to \(begun.function) has no “value”")
            }
        }
        return Recorded(
            process: Int(process),
            start: start,
            end: type == .ok ? number : nil,
            request: begun,
            answer: answer
        )
    }

    private static let members: Set<String> = [
        "process", "type", "f", "key", "value", "expected", "expected_revision", "by", "succeeded", "revision", "time",
    ]

    private static func request(_ object: JSONObject, isInvocation: Bool) throws(MalformedLine) -> Request {
        guard let name = try object.text("f").map({ String(decoding: $0, as: UTF8.self) }) else {
            throw MalformedLine("“f” is missing")
        }
        guard let function = Function(rawValue: name) else {
            throw MalformedLine("the function “\(name)” is none of get, put, delete, cas, incr and append")
        }
        guard let key = try object.text("key") else { throw MalformedLine("“key” is missing") }
        var request = Request(function: function, key: key)
        guard isInvocation else { return request }
        request.value = try value(object, "value")
        request.by = try object.integer("by") ?? 1
        switch function {
        case .put, .append:
            if request.value == nil { throw MalformedLine("\(name) has no “value”") }
        case .cas:
            guard object.has("value") else { throw MalformedLine("cas has no “value”; null deletes") }
            switch (object.has("expected"), try object.natural("expected_revision")) {
            case (true, nil): request.condition = .value(try value(object, "expected"))
            case (false, let revision?): request.condition = .revision(revision)
            default: throw MalformedLine("cas wants either “expected” or “expected_revision”")
            }
        case .get, .delete, .incr: break
        }
        return request
    }

    private static func value(_ object: JSONObject, _ name: String) throws(MalformedLine) -> [UInt8]? {
        if case .integer(let number) = object.members[name] { return Array("\(number)".utf8) }
        return try object.text(name)
    }

    // MARK: By key

    private mutating func distribute(_ operations: [Recorded]) throws(MalformedHistory) {
        let appended = Set(operations.lazy.filter { $0.request.function == .append }.map(\.request.key))
        for operation in operations {
            let key = operation.request.key
            let end = operation.end.map { UInt64($0) }
            let (client, start) = (operation.process, UInt64(operation.start))
            if appended.contains(key) {
                let action = try appendAction(operation)
                appendedKeys[key, default: History(AppendModel())].append(
                    Operation(client: client, call: start, returned: end, action: action)
                )
            } else {
                let action = try action(operation)
                keys[key, default: History(KeyValueModel())].append(
                    Operation(client: client, call: start, returned: end, action: action)
                )
            }
        }
        for key in keys.keys { keys[key]?.model.texts = textList }
    }

    private func appendAction(_ operation: Recorded) throws(MalformedHistory) -> AppendModel<UInt8>.Action {
        switch operation.request.function {
        case .get: return .read(operation.answer?.value)
        case .put: return .write(operation.request.value)
        case .delete: return .write(nil)
        case .append: return .append(operation.request.value ?? [])
        case .cas, .incr:
            throw MalformedHistory(
                line: operation.start,
                "\(operation.request.function) of a key that is appended to cannot be checked"
            )
        }
    }

    private mutating func action(_ operation: Recorded) throws(MalformedHistory) -> KeyValueModel.Action {
        let (request, answer) = (operation.request, operation.answer)
        switch request.function {
        case .get: return .get(interned(answer?.value), revision: answer?.revision)
        case .put: return .put(interned(request.value), revision: answer?.revision)
        case .delete: return .put(.missing, revision: answer?.revision)
        case .cas, .append:
            let condition: KeyValueModel.Condition =
                switch request.condition {
                case .revision(let revision): .revision(revision)
                case .value(let value): .value(interned(value))
                case nil: .value(.missing)
                }
            return .compareAndSet(
                condition,
                new: interned(request.value),
                succeeded: answer?.succeeded ?? true,
                revision: answer?.revision
            )
        case .incr:
            guard let text = answer?.value else { return .increment(by: request.by, result: nil) }
            guard case .number(let sum) = interned(text) else {
                throw MalformedHistory(line: operation.end ?? operation.start, "the sum is not a whole number")
            }
            return .increment(by: request.by, result: sum, revision: answer?.revision)
        }
    }

    /// A number where the text is one as a counter is written, without leading zeros.
    private mutating func interned(_ bytes: [UInt8]?) -> KeyValueModel.Value {
        guard let bytes else { return .missing }
        let text = String(decoding: bytes, as: UTF8.self)
        if let number = Int64(text), "\(number)" == text { return .number(number) }
        if let place = texts[bytes] { return .text(place) }
        let place = Int32(textList.count)
        texts[bytes] = place
        textList.append(text)
        return .text(place)
    }
}
