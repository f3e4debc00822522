// Topics: create, delete, alter, as computations over a PlannedState. Each checks its request, adds the records that
// carry it out, and gives the answer for when they are committed; an error adds nothing. With validate_only: the same
// checks and the same answer, and nothing is added.
#pragma once

#include "broker/api/requests.h"
#include "broker/controller/controller.h"
#include "broker/controller/planned_state.h"
#include "storage/env/env.h"

namespace trilog {

// INVALID_TOPIC, INVALID_REQUEST, INVALID_CONFIG, TOPIC_EXISTS, NOT_ENOUGH_NODES. The topic's id is drawn from
// `random`.
api::Answer<api::CreateTopicResult> plan_create_topic(PlannedState& state, const api::CreateTopicRequest& request,
                                                      const ControllerOptions& options, Random& random);
// INVALID_TOPIC, UNKNOWN_TOPIC (with names that are near).
api::Answer<bool> plan_delete_topic(PlannedState& state, const api::DeleteTopicRequest& request);
// INVALID_TOPIC, UNKNOWN_TOPIC, INVALID_REQUEST, INVALID_CONFIG, NOT_ENOUGH_NODES. `changed` false: nothing was added.
api::Answer<api::AlterTopicResult> plan_alter_topic(PlannedState& state, const api::AlterTopicRequest& request,
                                                    const ControllerOptions& options);

}  // namespace trilog
