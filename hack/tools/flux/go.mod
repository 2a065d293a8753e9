// flux: Flux's command line, for the tests that use Weir through it. Its program is built from a copy of its own module
// (hack/lib/tools.sh), so this file says which version and go.sum that it is the right one.
module weir.internal/hack/tools/flux

go 1.26.0

require github.com/fluxcd/flux2/v2 v2.9.5
