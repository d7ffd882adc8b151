/// What must hold of a key for a write to take place.
enum WritePrecondition: Equatable, Sendable {
    case none
    case mustNotExist
    case mustExist
    /// The key exists and was last modified by this revision.
    case revision(UInt64)
}

/// What a read's validators say (RFC 9110 §13.1). Evaluated against the item that was read.
struct ReadPrecondition: Equatable, Sendable {
    enum Validators: Equatable, Sendable {
        case any
        case revisions([UInt64])

        func match(_ revision: UInt64?) -> Bool {
            guard let revision else { return false }
            switch self {
            case .any: return true
            case .revisions(let revisions): return revisions.contains(revision)
            }
        }
    }

    var ifMatch: Validators?
    var ifNoneMatch: Validators?
}

enum Preconditions {
    /// The entity tags of a list. Tags that this server never gave match nothing; they are left out.
    ///
    /// - Parameter weakMatches: `If-None-Match` compares weakly, `If-Match` strongly (RFC 9110 §8.8.3.2).
    static func validators(
        _ text: String,
        field: String,
        weakMatches: Bool
    ) throws(Problem)
        -> ReadPrecondition.Validators
    {
        if RequestFields.trim(text[...]) == "*" { return .any }
        let parts = text.split(separator: ",")
        guard !parts.isEmpty else {
            throw .invalidParameter(field, "is empty; write \"REVISION\" with the quotes, or *.")
        }
        var revisions: [UInt64] = []
        for part in parts {
            var tag = RequestFields.trim(part)
            var isWeak = false
            if tag.hasPrefix("W/") {
                isWeak = true
                tag = tag.dropFirst(2)
            }
            guard tag.utf8.count >= 2, tag.hasPrefix("\""), tag.hasSuffix("\"") else {
                throw .invalidParameter(field, "'\(part)' is no entity tag; write \"REVISION\" with the quotes, or *.")
            }
            if isWeak, !weakMatches { continue }
            if let revision = UInt64(tag.dropFirst().dropLast()) { revisions.append(revision) }
        }
        return .revisions(revisions)
    }

    static func forRead(_ fields: RequestFields) throws(Problem) -> ReadPrecondition? {
        guard fields.ifMatch != nil || fields.ifNoneMatch != nil else { return nil }
        var precondition = ReadPrecondition()
        if let text = fields.ifMatch {
            precondition.ifMatch = try validators(text, field: "If-Match", weakMatches: false)
        }
        if let text = fields.ifNoneMatch {
            precondition.ifNoneMatch = try validators(text, field: "If-None-Match", weakMatches: true)
        }
        return precondition
    }

    /// `If-Match`, `If-None-Match` and `cas` are three ways to say one thing; a write takes one of them.
    static func forWrite(_ fields: RequestFields, cas: Query.Parameter?) throws(Problem) -> WritePrecondition {
        let given = [fields.ifMatch != nil, fields.ifNoneMatch != nil, cas != nil].count { $0 }
        guard given <= 1 else {
            throw .invalidParameter("precondition", "give one of If-Match, If-None-Match and cas.")
        }
        if let cas {
            let revision = try cas.number()
            return revision == 0 ? .mustNotExist : .revision(revision)
        }
        if let text = fields.ifNoneMatch {
            guard case .any = try validators(text, field: "If-None-Match", weakMatches: true) else {
                throw .invalidParameter("If-None-Match", "on a write only * is understood: the key must not exist.")
            }
            return .mustNotExist
        }
        if let text = fields.ifMatch {
            switch try validators(text, field: "If-Match", weakMatches: false) {
            case .any: return .mustExist
            case .revisions(let revisions) where revisions.count == 1 && !text.contains(","):
                // Revision 0 is none; a tag "0" can match nothing, which is what an impossible revision says.
                return .revision(revisions[0] == 0 ? .max : revisions[0])
            case .revisions(let revisions) where revisions.isEmpty:
                return .revision(.max)
            case .revisions:
                throw .invalidParameter("If-Match", "on a write one entity tag or * is understood.")
            }
        }
        return .none
    }
}
