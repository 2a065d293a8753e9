# shellcheck shell=bash
# The tools that Weir's scripts and tests run, and how each is found or built. Sourced by hack/lib.sh.
#
# Flow: a binary in KUBEBUILDER_ASSETS or on PATH that runs is used as it is; else the one built earlier from the same
# inputs; else Go builds it from the modules under hack/tools/, whose go.mod alone says which version.
# Guarantees: a build is whole or absent (built aside, then renamed) and two runs never build the same thing twice at once.
# WEIR_BUILD_TOOLS=1 ignores what is installed.

# What hack/cluster needs, in the order in which a cold machine builds it.
weir_cluster_tools=(etcd kube-apiserver kube-controller-manager kube-scheduler kwok kubectl)

# What `cargo install` builds, for it has no module that says the version.
weir_cargo_deny_version=0.20.2

# All that tool_path knows.
weir_tools=("${weir_cluster_tools[@]}" promtool gitserver renderer renderer-sops opa-eval gatekeeper gator-answers sops age-keygen helm flux cargo-deny)

# tool_path NAME: prints the path of a tool that runs, building it first when it must.
tool_path() {
  local name="$1" found
  tool_spec "$name" || die "no such tool: $name; known are ${weir_tools[*]}"
  if found="$(installed_tool "$name")"; then
    printf '%s\n' "$found"
    return
  fi
  if [[ -z "$tool_dir" ]]; then
    build_cargo "$name" "$tool_version"
    return
  fi
  build_go "$name" "$tool_version" "$tool_dir" "$tool_package" "$tool_ldflags" "$tool_tags" "$tool_copy"
}

# build_go NAME VERSION DIR PACKAGE [LDFLAGS [TAGS [COPY]]]: prints the path of NAME, built from PACKAGE in the module at DIR.
# It is kept under a hash of everything that goes into it: flags, platform, and the files of DIR. COPY is the module that
# has PACKAGE and must be built as the main one, and a file to make in it first, as in `module:path`.
build_go() {
  local name="$1" version="$2" dir="$3" package="$4" ldflags="-s -w ${5:-}" tags="${6:-}" copy="${7:-}" key home
  key="$({ printf '%s\n' "$package" "$ldflags" "$tags" ${copy:+"$copy"} "$(uname -sm)"; hash_files "$dir"; } | sha256sum | cut -c 1-12)"
  home="$weir_cache/bin/$name-$version-$key"
  [[ -x "$home/$name" ]] ||
    with_lock "$weir_cache/locks/$name-$version-$key" "waiting for another run that builds $name…" \
      build_go_locked "$name" "$version" "$dir" "$package" "$ldflags" "$tags" "$home" "$copy" || exit 1
  printf '%s\n' "$home/$name"
}

# build_cargo NAME VERSION: prints the path of a crate's program of the same name.
build_cargo() {
  local name="$1" version="$2" home="$weir_cache/bin/$1-$2"
  [[ -x "$home/bin/$name" ]] ||
    with_lock "$weir_cache/locks/$name-$version" "waiting for another run that builds $name…" \
      build_cargo_locked "$name" "$version" "$home" || exit 1
  printf '%s\n' "$home/bin/$name"
}

build_cargo_locked() {
  local name="$1" version="$2" home="$3"
  [[ ! -x "$home/bin/$name" ]] || return 0
  need cargo 'install Rust 1.95 or later (rustup.rs)'
  slow "building $name $version, once" cargo_install "$name@$version" "$home" ||
    die "$name $version could not be built, see the lines above"
}

# From a folder of its own, so that neither this project's lock nor its settings count; optimised for a short build.
cargo_install() {
  cd / || return
  exec env -u CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 cargo install --quiet --locked --root "$2" "$1" 9>&-
}

# tool_spec NAME: sets tool_dir (empty for a crate), tool_package, tool_version, tool_ldflags, tool_tags, tool_copy and tool_probe; false if unknown.
tool_spec() {
  local tools="$weir_hack/tools" module
  tool_ldflags='' tool_tags='' tool_copy='' tool_probe=--version
  case "$1" in
  kube-apiserver | kube-controller-manager | kube-scheduler | kubectl)
    tool_dir="$tools/kubernetes" module=k8s.io/kubernetes tool_package="k8s.io/kubernetes/cmd/$1"
    [[ "$1" != kubectl ]] || tool_probe='version --client'
    ;;
  etcd) tool_dir="$tools/etcd" module=go.etcd.io/etcd/server/v3 tool_package=$module ;;
  kwok) tool_dir="$tools/kwok" module=sigs.k8s.io/kwok tool_package=$module/cmd/kwok ;;
  promtool)
    # Without the service discovery of every cloud, which checking rules does not need, it is a fifth fewer packages to compile.
    tool_dir="$tools/prometheus" module=github.com/prometheus/prometheus tool_package=$module/cmd/promtool
    tool_tags=remove_all_sd
    ;;
  renderer)
    tool_dir="${weir_hack%/*}/renderer" tool_package=. tool_version=dev tool_probe=''
    return
    ;;
  renderer-sops)
    # The same program with SOPS's library, which brings the SDKs of every cloud along.
    tool_dir="${weir_hack%/*}/renderer" tool_package=. tool_version=dev tool_probe='' tool_tags=sops
    return
    ;;
  sops) tool_dir="$tools/sops" module=github.com/getsops/sops/v3 tool_package=$module/cmd/sops tool_probe='' ;;
  age-keygen) tool_dir="$tools/sops" module=filippo.io/age tool_package=$module/cmd/age-keygen tool_probe='' ;;
  helm) tool_dir="$tools/helm" module=helm.sh/helm/v3 tool_package=$module/cmd/helm tool_probe='version --client' ;;
  opa-eval)
    tool_dir="$tools/opa" module=github.com/open-policy-agent/opa tool_package=. tool_probe=''
    ;;
  gatekeeper)
    tool_dir="$tools/gatekeeper" module=github.com/open-policy-agent/gatekeeper/v3 tool_package=$module tool_probe=''
    ;;
  gator-answers)
    tool_dir="$tools/gator" module=github.com/open-policy-agent/gatekeeper/v3 tool_package=. tool_probe=''
    ;;
  flux)
    # It embeds manifests that only its release has; none of the commands that are tested reads them. Without a version it
    # takes itself for a development build, and asks nobody for a newer one.
    tool_dir="$tools/flux" module=github.com/fluxcd/flux2/v2 tool_package=./cmd/flux tool_probe='version --client'
    tool_copy="$module:cmd/flux/manifests/none.yaml"
    ;;
  gitserver)
    tool_dir="$weir_hack/gitserver" tool_package=. tool_version=dev tool_probe=''
    return
    ;;
  cargo-deny)
    tool_dir='' tool_package='' tool_version="$weir_cargo_deny_version"
    return
    ;;
  *) return 1 ;;
  esac
  tool_version="$(awk -v m="$module" '$1 == "require" && $2 == m { print $3; exit } $1 == m && $2 ~ /^v/ { print $2; exit }' "$tool_dir/go.mod")"
  [[ -n "$tool_version" ]] || die "$tool_dir/go.mod does not require $module; restore that line"
  if [[ "$module" == k8s.io/kubernetes ]]; then
    local stamp=k8s.io/component-base/version minor="${tool_version#v*.}"
    tool_ldflags="-X $stamp.gitVersion=$tool_version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*} -X $stamp.gitCommit="
  fi
}

# installed_tool NAME: prints the path of a tool that somebody else installed and that runs; false if there is none.
# A cluster's own bin/ is passed over when `hack/cluster env` has put it on PATH: it holds links, perhaps to what an
# older checkout built, and goes away with the cluster.
installed_tool() {
  local name="$1" candidate real
  [[ -n "$tool_probe" && -z "${WEIR_BUILD_TOOLS:-}" ]] || return 1
  while IFS= read -r candidate; do
    real="$(realpath -e "$candidate" 2>/dev/null)" || continue
    [[ -x "$real" && "$real" != "$weir_cache"/* && ! -f "${candidate%/*}/../cluster.conf" ]] || continue
    # shellcheck disable=SC2086 # The probe is a list of words.
    if "$candidate" $tool_probe >/dev/null 2>&1 </dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
    say "ignoring $candidate: \`$name $tool_probe\` fails"
  done < <(printf '%s\n' "${KUBEBUILDER_ASSETS:-}/$name"; type -aP "$name")
  return 1
}

# hash_files DIR: a line per file of a Go module, so that any edit is another version.
hash_files() {
  (cd "$1" && find . -type f ! -name '*_test.go' ! -name '*.md' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
}

build_go_locked() {
  local name="$1" version="$2" dir="$3" package="$4" ldflags="$5" tags="$6" home="$7" copy="$8" aside source=''
  [[ ! -x "$home/$name" ]] || return 0
  need_go
  mkdir -p "$home" || die "$home cannot be created"
  aside="$home/.$name.$$"
  if [[ -n "$copy" ]]; then
    source="$home/.source.$$"
    slow "fetching the source of $name $version" copy_module "$dir" "$copy" "$source" ||
      die "$name $version could not be fetched from $(go env GOPROXY), see the lines above"
    dir="$source"
  fi
  if ! slow "building $name $version, once" go_build "$dir" "$aside" "$package" "$ldflags" "$tags"; then
    rm -rf "$aside" "$source"
    die "$name $version could not be built; its modules come from $(go env GOPROXY), see the lines above"
  fi
  mv "$aside" "$home/$name" || die "$home cannot be written"
  [[ -z "$source" ]] || rm -rf "$source"
}

# copy_module DIR MODULE:FILE TO: the source of a module that DIR requires, checked against DIR's go.sum, with an empty FILE in it.
copy_module() {
  local dir="$1" module="${2%%:*}" file="${2#*:}" to="$3" from
  from="$(cd "$dir" && export GOFLAGS= GOWORK=off GOTOOLCHAIN=local && go mod download "$module" &&
    go list -m -f '{{.Dir}}' "$module")" || return
  rm -rf "$to"
  cp -r "$from" "$to" && chmod -R u+w "$to" && mkdir -p "$(dirname "$to/$file")" && : >"$to/$file"
}

# Nothing of the caller's Go settings may change what is built, and no other toolchain is fetched behind their back.
go_build() {
  cd "$1" || return
  # Descriptor 9 is the lock of this build; a compiler that outlives an interrupted script must not hold it.
  exec env CGO_ENABLED=0 GOFLAGS= GOWORK=off GOTOOLCHAIN=local \
    go build -trimpath -buildvcs=false -tags "$5" -ldflags "$4" -o "$2" "$3" 9>&-
}
