-- Health of a Lucid resource from its kstatus conditions.
local generation = obj.metadata.generation or 0

if obj.metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "The resource is being deleted." }
end
if obj.status == nil or obj.status.conditions == nil then
  return { status = "Progressing", message = "The operator has not looked at the resource yet." }
end
if (obj.status.observedGeneration or 0) < generation then
  return { status = "Progressing", message = "The operator has not seen the last change yet." }
end

local conditions = {}
for _, condition in ipairs(obj.status.conditions) do
  conditions[condition.type] = condition
end

local function message(type)
  return (conditions[type] or {}).message or ""
end
local function is(type, status)
  return conditions[type] ~= nil and conditions[type].status == status
end

if is("Stalled", "True") then
  return { status = "Degraded", message = message("Stalled") }
end
if is("Paused", "True") then
  return { status = "Suspended", message = message("Paused") }
end
if is("Reconciling", "True") then
  return { status = "Progressing", message = message("Reconciling") }
end
if is("Ready", "True") then
  return { status = "Healthy", message = message("Ready") }
end
return { status = "Progressing", message = message("Ready") }
