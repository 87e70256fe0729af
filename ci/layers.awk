# Prints each path in Rust code, and the line that it is in, that leads from one part of a crate to another one that
# does not lie below it: see ci/layers, which gives `root`, the folder of the crate, and `below`.
#
# Paths that begin with `crate` or `super` are followed wherever they are in the code, through groups and modules.
# Comments, strings and what only tests have do not count.

BEGIN {
    count = split(below, lines, "\n")
    for (i = 1; i <= count; i++) {
        if (split(lines[i], names, /:? +|:/) < 1 || names[1] == "") continue
        is_part[names[1]] = 1
        for (j = 2; j in names; j++) may_use[names[1], names[j]] = 1
        delete names
    }
}

FNR == 1 { end_file(); file = FILENAME }
{ read_tokens($0) }
END { end_file(); report() }

# ---- Tokens: identifiers, `::`, strings (with a quote in front), single characters.

function add(text) { tokens++; token[tokens] = text; line_of[tokens] = FNR }

function read_tokens(rest,    found) {
    while (rest != "") {
        if (comments > 0) {
            if (!match(rest, /\/\*|\*\//)) return
            comments += substr(rest, RSTART, 1) == "/" ? 1 : -1
            rest = substr(rest, RSTART + 2)
        } else if (string_end != "") {
            rest = read_string(rest)
        } else if (match(rest, /^[ \t]+/)) {
            rest = substr(rest, RLENGTH + 1)
        } else if (rest ~ /^\/\//) {
            return
        } else if (rest ~ /^\/\*/) {
            comments = 1
            rest = substr(rest, 3)
        } else if (match(rest, /^[bc]?r#*"/)) {
            found = substr(rest, 1, RLENGTH)
            gsub(/[^#]/, "", found)
            string_end = "\"" found
            is_raw = 1
            string = ""
            rest = substr(rest, RLENGTH + 1)
        } else if (match(rest, /^[bc]?"/)) {
            string_end = "\""
            is_raw = 0
            string = ""
            rest = substr(rest, RLENGTH + 1)
        } else if (match(rest, /^b?'(\\.[^']*|[^\\'a-zA-Z0-9_]+|.)'/)) {
            rest = substr(rest, RLENGTH + 1)
        } else if (match(rest, /^'?[A-Za-z_][A-Za-z0-9_]*/)) {
            add(substr(rest, 1, RLENGTH))
            rest = substr(rest, RLENGTH + 1)
        } else if (rest ~ /^::/) {
            add("::")
            rest = substr(rest, 3)
        } else {
            add(substr(rest, 1, 1))
            rest = substr(rest, 2)
        }
    }
}

function read_string(rest,    at) {
    if (!is_raw && match(rest, /^([^"\\]|\\.)*"/)) {
        at = RLENGTH
    } else if (!is_raw || !index(rest, string_end)) {
        string = string rest "\n"
        return ""
    } else {
        at = index(rest, string_end)
    }
    string = string substr(rest, 1, at - 1)
    add("\"" string)
    rest = substr(rest, at + length(string_end))
    string_end = ""
    return rest
}

# ---- One file: its modules, without what only tests have.

function end_file(    name) {
    if (file != "") {
        name = substr(file, length(root) + 2)
        if (name == "lib.rs") {
            read_exports()
        } else {
            sub(/\.rs$/, "", name)
            sub(/\/mod$/, "", name)
            read_file(name)
        }
    }
    for (i in token) delete token[i]
    tokens = comments = 0
    string_end = ""
}

# What the root of the crate passes on to users, under names of its own: the part that each name comes from.
function read_exports(    i, part) {
    for (i = 1; i <= tokens; i++) {
        if (token[i] == "use") {
            part = token[i + 1]
        } else if (token[i] == ";") {
            part = ""
        } else if (part != "" && token[i] ~ /^[A-Za-z]/ && token[i + 1] != "::" && token[i + 1] != "as") {
            exported_by[token[i]] = part
        }
    }
}

# `module` is the path of a module from the root, with slashes; inner modules are added to it while they last.
function read_file(module,    i, depth, inner, ends, outer) {
    for (i = 1; i <= tokens; i++) {
        if (token[i] == "#" && token[i + 1] == "[" && is_for_tests(i + 1)) {
            i = end_of_item(matching(i + 1) + 1, module)
        } else if (token[i] == "mod" && token[i + 2] == "{") {
            inner++
            outer[inner] = module
            ends[inner] = depth
            module = module "/" token[i + 1]
        } else if (token[i] == "{") {
            depth++
        } else if (token[i] == "}") {
            depth--
            if (inner > 0 && depth == ends[inner]) module = outer[inner--]
        } else {
            follow(i, module)
        }
    }
}

# The bracket that closes the one at `i`.
function matching(i,    depth) {
    for (; i <= tokens; i++) {
        if (token[i] ~ /^[({[]$/) depth++
        if (token[i] ~ /^[])}]$/ && --depth == 0) return i
    }
    return tokens
}

# Whether the attribute whose bracket is at `i` is `#[test]`, or `#[cfg(..)]` with `test`, alone or inside of `all`.
function is_for_tests(i,    end, depth) {
    if (token[i + 1] == "test" && token[i + 2] == "]") return 1
    if (token[i + 1] != "cfg") return 0
    if (token[i + 3] == "test" && token[i + 4] == ")") return 1
    if (token[i + 3] != "all") return 0
    end = matching(i + 4)
    for (i += 5; i < end; i++) {
        if (token[i] == "(") depth++
        if (token[i] == ")") depth--
        if (depth == 0 && token[i] == "test") return 1
    }
    return 0
}

# The last token of the item, field or expression that begins at `i`. A module that has a file makes that file one
# that only tests have.
function end_of_item(i, module,    is_item) {
    while (token[i] == "#") i = matching(i + 1) + 1
    is_item = token[i] ~ /^(pub|use|mod|fn|unsafe|extern|const|static|struct|enum|trait|type|impl|macro_rules)$/
    for (; i <= tokens; i++) {
        if (token[i] == "mod" && token[i + 2] == ";") tests_only[root "/" module "/" token[i + 1]] = 1
        if (token[i] == "{") return matching(i)
        if (token[i] ~ /^[([]$/) i = matching(i)
        if (token[i] == ";" || token[i] == "," && !is_item) return i
        if (token[i] ~ /^[])}]$/ && !is_item) return i - 1
    }
    return tokens
}

# ---- Paths.

# Follows the path that begins at token `i` of a module, if one does.
function follow(i, module,    before, is_visibility) {
    before = token[i - 1]
    if ((token[i] == "path" && token[i + 1] == "=" || token[i] == "include" && token[i + 1] == "!") &&
        token[i + 2] token[i + 3] ~ /"\.\./) {
        say(i, "takes a file from elsewhere")
    }
    if (before == "::" && token[i - 2] != "self") return
    is_visibility = before == "(" && token[i + 1] == ")" || before == "in"
    if (is_visibility) return
    if (token[i] == "crate" && before != "::") {
        if (before == "extern") {
            say(i, "gives the root of the crate a name")
        } else {
            tail(i, "")
        }
    }
    if (token[i] == "super") tail(i, parent(module))
}

function parent(module) { return sub(/\/[^\/]*$/, "", module) ? module : "" }

# Follows a path behind token `i`, which stands for `module`.
function tail(i, module,    next_one, end) {
    next_one = token[i + 2]
    if (token[i + 1] != "::") {
        used(i, module)
    } else if (next_one == "super") {
        tail(i + 2, parent(module))
    } else if (next_one == "{") {
        end = matching(i + 2)
        for (i += 3; i < end; i++) {
            branch(i, module)
            while (i < end && token[i] != ",") {
                if (token[i] == "{") i = matching(i)
                i++
            }
        }
    } else {
        branch(i + 2, module)
    }
}

# The same for the token behind a `::`, or at the beginning of one of a group's paths.
function branch(i, module) {
    if (token[i] == "super") {
        tail(i, parent(module))
    } else if (module != "" || token[i] == "*" || token[i] == "self") {
        used(i, module)
    } else {
        used(i, token[i])
    }
}

# Notes that the file uses a module, of which the first name counts.
function used(i, module,    own, part) {
    if (module == "") return say(i, "takes the root of the crate as a whole")
    own = substr(file, length(root) + 2)
    sub(/(\/|\.rs).*/, "", own)
    part = module
    sub(/\/.*/, "", part)
    # Names of the root may be defined behind this file: so the rest is for the end.
    uses++
    use_file[uses] = file
    use_line[uses] = line_of[i]
    use_own[uses] = own
    use_part[uses] = part
}

function say(i, what) {
    uses++
    use_file[uses] = file
    use_line[uses] = line_of[i]
    use_what[uses] = what
}

function report(    i, name, what, line, last) {
    for (i = 1; i <= uses; i++) {
        name = use_file[i]
        if (is_for_tests_only(name)) continue
        what = use_what[i]
        if (what == "") {
            part = use_part[i]
            if (!(part in is_part)) part = exported_by[part]
            if (part == use_own[i] || (use_own[i], part) in may_use) continue
            what = part == "" ? use_part[i] ", which is in no part" : part ", which does not lie below it"
            what = use_own[i] " uses " what
        }
        line = name ":" use_line[i] ": "
        if (line != last) print line what
        last = line
    }
}

function is_for_tests_only(name) {
    sub(/\.rs$/, "", name)
    for (; name != ""; name = parent(name)) if (name in tests_only) return 1
    return 0
}
