#include "engine/creation.h"

namespace gantry {

io::Task<Result<>> create(Env& env, CreateOptions options) {
  CreateRequest request;
  request.options = std::move(options);
  Result<Created> created = co_await create_container(env, std::move(request));
  if (!created) co_return forward(std::move(created));
  co_return Result<>();
}

}  // namespace gantry
