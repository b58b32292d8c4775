// The compiler pass of `still cc`: in front of each store, a check whether the granule is logged.
//
// The check is compiled in: one load of the granule's tag, one comparison with the tag of the
// innermost checkpoint, and a call that changes no register when they differ (the runtime's
// __still_slow). Most stores need none:
//   * those to the function's own locals: dead after a rollback, or copied with the frame of the
//     function that took the checkpoint (runtime/checkpoint.rs says why that suffices);
//   * those whose bytes were checked before, with no call between that could take a checkpoint (calls of
//     functions of the same file that cannot, whatever they call, do not count);
//   * neighbours: stores to one object at constant distances are checked together;
//   * those of a loop that walks through memory: checked as one range, before the loop.
// It runs last, so that it sees what the optimiser left.
//
// Built for the LLVM of the compiler that loads it (`still inproc pass`). STILL_INPROC_GRANULE in the
// environment says what a granule is: line (64 bytes) or word (8), as the runtime's variant.
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/PostOrderIterator.h"
#include "llvm/Analysis/LoopInfo.h"
#include "llvm/Analysis/ScalarEvolution.h"
#include "llvm/Analysis/ScalarEvolutionExpressions.h"
#include "llvm/Analysis/TargetLibraryInfo.h"
#include "llvm/Analysis/ValueTracking.h"
#include "llvm/IR/CFG.h"
#include "llvm/IR/Dominators.h"
#include "llvm/IR/IRBuilder.h"
#include "llvm/IR/InlineAsm.h"
#include "llvm/IR/IntrinsicInst.h"
#include "llvm/IR/MDBuilder.h"
#include "llvm/IR/Module.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Passes/PassPlugin.h"
#include "llvm/Transforms/Utils/BasicBlockUtils.h"
#include "llvm/Transforms/Utils/Local.h"
#include "llvm/Transforms/Utils/ModuleUtils.h"
#include "llvm/Transforms/Utils/PromoteMemToReg.h"
#include "llvm/Transforms/Utils/ScalarEvolutionExpander.h"
#include <cstdlib>
#include <cstring>

using namespace llvm;

namespace {

constexpr uint64_t Shadow = 0x7fff8000;

// A store of a known size at an address, or of a size that is only known when it runs.
struct Access {
    Instruction *At;
    Value *Pointer;
    Value *Length; // null if Bytes is the size
    uint64_t Bytes;
    Value *Lane = nullptr; // only if this is true (i1)
    bool Done = false;
};

// Functions that cannot begin or end a checkpoint, whatever they call: all their calls go to others of the
// kind, or to the C library. What was checked before a call of one is still checked after it.
using Calm = DenseSet<const Function *>;

// Whether a call may begin or end a checkpoint.
bool barrier(const Instruction &I, const TargetLibraryInfo &TLI, const Calm &Quiet) {
    auto *CB = dyn_cast<CallBase>(&I);
    if (!CB || CB->isInlineAsm()) return false;
    const Function *Callee = CB->getCalledFunction();
    if (Callee && Callee->isIntrinsic()) return false;
    if (CB->onlyReadsMemory()) return false;
    LibFunc Known;
    if (Callee && TLI.getLibFunc(*Callee, Known) && TLI.has(Known)) return Known == LibFunc_qsort;
    return !Callee || !Quiet.count(Callee);
}

Calm calmOnes(Module &M, FunctionAnalysisManager &AM) {
    Calm Quiet;
    for (Function &F : M)
        // Another definition may take the place of one that is not exact.
        if (!F.isDeclaration() && F.hasExactDefinition() && !F.hasFnAttribute(Attribute::Naked)) Quiet.insert(&F);
    DenseMap<const Function *, SmallVector<const Function *, 4>> Callers;
    SmallVector<const Function *, 64> Loud;
    for (Function &F : M) {
        if (!Quiet.count(&F)) continue;
        const TargetLibraryInfo &TLI = AM.getResult<TargetLibraryAnalysis>(F);
        bool Quietly = true;
        for (BasicBlock &BB : F)
            for (Instruction &I : BB) {
                if (barrier(I, TLI, Quiet)) Quietly = false;
                else if (auto *CB = dyn_cast<CallBase>(&I))
                    if (const Function *Callee = CB->getCalledFunction())
                        if (Quiet.count(Callee)) Callers[Callee].push_back(&F);
            }
        if (!Quietly) Loud.push_back(&F);
    }
    while (!Loud.empty()) {
        const Function *One = Loud.pop_back_val();
        if (!Quiet.erase(One)) continue;
        auto Found = Callers.find(One);
        if (Found != Callers.end()) Loud.append(Found->second.begin(), Found->second.end());
    }
    return Quiet;
}

class Instrumenter {
  public:
    Instrumenter(Function &F, FunctionAnalysisManager &AM, const Calm &Quiet)
        : F(F), Quietly(Quiet), M(*F.getParent()), DL(M.getDataLayout()), C(F.getContext()),
          TLI(AM.getResult<TargetLibraryAnalysis>(F)), DT(AM.getResult<DominatorTreeAnalysis>(F)),
          LI(AM.getResult<LoopAnalysis>(F)), SE(AM.getResult<ScalarEvolutionAnalysis>(F)) {
        const char *Granule = std::getenv("STILL_INPROC_GRANULE");
        Word = Granule && !std::strcmp(Granule, "word");
        Shift = Word ? 3 : 6;
        Size = 1u << Shift;
        I8 = Type::getInt8Ty(C);
        I64 = Type::getInt64Ty(C);
    }

    bool run() {
        for (BasicBlock &BB : F)
            for (Instruction &I : BB) collect(I);
        if (Accesses.empty()) return false;
        declare();
        makeTag();
        hoist();
        group();
        for (Access &A : Accesses)
            if (!A.Done) emit(A);
        for (Check &K : Checks) check(K);
        finishTag();
        return true;
    }

  private:
    Function &F;
    const Calm &Quietly;
    Module &M;
    const DataLayout &DL;
    LLVMContext &C;
    TargetLibraryInfo &TLI;
    DominatorTree &DT;
    LoopInfo &LI;
    ScalarEvolution &SE;
    bool Word;
    unsigned Shift;
    uint64_t Size;
    Type *I8, *I64;
    std::vector<Access> Accesses;
    GlobalVariable *Tag = nullptr;
    AllocaInst *TagSlot = nullptr;
    FunctionCallee Slow, SlowSpan, Span, Lane;

    struct Check {
        Instruction *Before;
        Value *Pointer; // of the lowest byte, as an integer
        uint64_t Bytes;
        bool Single; // certainly in one granule
    };
    std::vector<Check> Checks;

    static bool isLocal(Value *Pointer) { return isa<AllocaInst>(getUnderlyingObject(Pointer)); }

    void add(Instruction *At, Value *Pointer, uint64_t Bytes, Value *Length = nullptr,
             Value *Lane = nullptr) {
        if (Pointer->getType()->getPointerAddressSpace() != 0 || isLocal(Pointer)) return;
        if (!Length && !Bytes) return;
        Access A{At, Pointer, Length, Bytes};
        A.Lane = Lane;
        Accesses.push_back(A);
    }

    uint64_t sizeOf(Type *T) {
#if LLVM_VERSION_MAJOR < 15
        return DL.getTypeStoreSize(T).getKnownMinSize();
#else
        return DL.getTypeStoreSize(T).getKnownMinValue();
#endif
    }

    void collect(Instruction &I) {
        if (auto *S = dyn_cast<StoreInst>(&I))
            return add(S, S->getPointerOperand(), sizeOf(S->getValueOperand()->getType()));
        if (auto *R = dyn_cast<AtomicRMWInst>(&I))
            return add(R, R->getPointerOperand(), sizeOf(R->getValOperand()->getType()));
        if (auto *X = dyn_cast<AtomicCmpXchgInst>(&I))
            return add(X, X->getPointerOperand(), sizeOf(X->getNewValOperand()->getType()));
        auto *CB = dyn_cast<CallBase>(&I);
        if (!CB) return;
        if (auto *MI = dyn_cast<AnyMemIntrinsic>(CB)) {
            if (auto *N = dyn_cast<ConstantInt>(MI->getLength()))
                return add(MI, MI->getRawDest(), N->getZExtValue());
            return add(MI, MI->getRawDest(), 0, MI->getLength());
        }
        if (CB->isInlineAsm()) return collectAsm(*CB);
        Function *Callee = CB->getCalledFunction();
        if (!Callee) return;
        if (Callee->isIntrinsic()) return collectIntrinsic(*CB, *Callee);
        collectLibatomic(*CB, Callee->getName());
    }

    void collectAsm(CallBase &CB) {
        auto *Asm = cast<InlineAsm>(CB.getCalledOperand());
        unsigned Argument = 0;
        for (const InlineAsm::ConstraintInfo &K : Asm->ParseConstraints()) {
            if (K.Type == InlineAsm::isClobber) continue;
            if (K.Type == InlineAsm::isOutput && !K.isIndirect) continue;
            if (Argument >= CB.arg_size()) break;
            Value *Pointer = CB.getArgOperand(Argument);
            if (K.Type == InlineAsm::isOutput && Pointer->getType()->isPointerTy()) {
                Type *T = nullptr;
                Attribute Element = CB.getParamAttr(Argument, Attribute::ElementType);
                if (Element.isValid()) T = Element.getValueAsType();
#if LLVM_VERSION_MAJOR < 15
                if (!T) T = Pointer->getType()->getPointerElementType();
#endif
                add(&CB, Pointer, T ? sizeOf(T) : 8);
            }
            Argument++;
        }
    }

    void lanes(CallBase &CB, Value *Pointer, Value *Mask, Type *Data, bool Pointers) {
        auto *V = dyn_cast<FixedVectorType>(Data);
        if (!V) return;
        IRBuilder<> B(&CB);
        uint64_t Each = sizeOf(V->getElementType());
        for (unsigned N = 0; N < V->getNumElements(); N++) {
            Value *On = B.CreateExtractElement(Mask, N);
            if (!On->getType()->isIntegerTy(1)) // x86: the sign decides
                On = B.CreateICmpSLT(On, Constant::getNullValue(On->getType()));
            Value *At;
            if (Pointers)
                At = B.CreateExtractElement(Pointer, N);
            else
                At = B.CreateIntToPtr(
                    B.CreateAdd(B.CreatePtrToInt(Pointer, I64), B.getInt64(N * Each)),
                    Pointer->getType());
            Access A{&CB, At, nullptr, Each};
            A.Lane = On;
            Accesses.push_back(A);
        }
    }

    void collectIntrinsic(CallBase &CB, Function &Callee) {
        StringRef Name = Callee.getName();
        switch (Callee.getIntrinsicID()) {
        case Intrinsic::masked_store:
            if (!isLocal(CB.getArgOperand(1)))
                lanes(CB, CB.getArgOperand(1), CB.getArgOperand(3), CB.getArgOperand(0)->getType(),
                      false);
            return;
        case Intrinsic::masked_scatter:
            return lanes(CB, CB.getArgOperand(1), CB.getArgOperand(3),
                         CB.getArgOperand(0)->getType(), true);
        case Intrinsic::masked_compressstore: {
            // At most as many elements as there are: those after the last one written are read only.
            if (auto *V = dyn_cast<FixedVectorType>(CB.getArgOperand(0)->getType())) {
                IRBuilder<> B(&CB);
                Value *Mask = CB.getArgOperand(2);
                Value *N = B.getInt64(0);
                for (unsigned I = 0; I < V->getNumElements(); I++)
                    N = B.CreateAdd(N, B.CreateZExt(B.CreateExtractElement(Mask, I), I64));
                add(&CB, CB.getArgOperand(1), 0,
                    B.CreateMul(N, B.getInt64(sizeOf(V->getElementType()))));
            }
            return;
        }
        case Intrinsic::vastart:
        case Intrinsic::vacopy:
            return add(&CB, CB.getArgOperand(0), 24);
        default:
            break;
        }
        if (Name.contains("x86.avx.maskstore") || Name.contains("x86.avx2.maskstore"))
            return lanes(CB, CB.getArgOperand(0), CB.getArgOperand(1),
                         CB.getArgOperand(2)->getType(), false);
        if (Name.contains("maskmov.dqu") || Name.contains("mmx.maskmovq"))
            return lanes(CB, CB.getArgOperand(2), CB.getArgOperand(1),
                         CB.getArgOperand(0)->getType(), false);
        if (Name.contains("x86.sse.stmxcsr")) return add(&CB, CB.getArgOperand(0), 4);
        if (Name.contains("x86.fxsave")) return add(&CB, CB.getArgOperand(0), 512);
        if (Name.contains("x86.xsave")) return add(&CB, CB.getArgOperand(0), 4096);
        if (Name.contains("llvm.x86.") && Name.contains("scatter") && CB.arg_size() >= 5) {
            // Base, mask, index, data, scale.
            auto *Index = dyn_cast<FixedVectorType>(CB.getArgOperand(2)->getType());
            auto *Data = dyn_cast<FixedVectorType>(CB.getArgOperand(3)->getType());
            if (!Index || !Data || !CB.getArgOperand(1)->getType()->isVectorTy()) return;
            IRBuilder<> B(&CB);
            unsigned N = std::min(Index->getNumElements(), Data->getNumElements());
            Value *Scale = B.CreateZExtOrTrunc(CB.getArgOperand(4), I64);
            for (unsigned I = 0; I < N; I++) {
                Value *Off = B.CreateSExt(B.CreateExtractElement(CB.getArgOperand(2), I), I64);
                Value *At = B.CreateAdd(B.CreatePtrToInt(CB.getArgOperand(0), I64),
                                        B.CreateMul(Off, Scale));
                Access A{&CB, B.CreateIntToPtr(At, CB.getArgOperand(0)->getType()), nullptr,
                         sizeOf(Data->getElementType())};
                A.Lane = B.CreateExtractElement(CB.getArgOperand(1), I);
                Accesses.push_back(A);
            }
            return;
        }
    }

    // 16-byte atomics are calls into a library that nobody instruments.
    void collectLibatomic(CallBase &CB, StringRef Name) {
        if (Name.find("__atomic_") != 0 || Name.contains("fence") || Name.contains("lock_free"))
            return;
        if (Name.contains("_16")) {
            if (!Name.contains("load")) add(&CB, CB.getArgOperand(0), 16);
            if (Name.contains("compare_exchange")) add(&CB, CB.getArgOperand(1), 16);
            return;
        }
        if (Name == "__atomic_load" || Name == "__atomic_store" || Name == "__atomic_exchange" ||
            Name == "__atomic_compare_exchange")
            for (unsigned N = 1; N < CB.arg_size(); N++)
                if (CB.getArgOperand(N)->getType()->isPointerTy())
                    add(&CB, CB.getArgOperand(N), 0, CB.getArgOperand(0));
    }

    bool barrier(const Instruction &I) { return ::barrier(I, TLI, Quietly); }

    void declare() {
        auto Get = [&](const char *Name, ArrayRef<Type *> Types) {
            return M.getOrInsertFunction(Name, FunctionType::get(Type::getVoidTy(C), Types, false));
        };
        Slow = Get("__still_slow", {I64});
        SlowSpan = Get("__still_slow_span", {I64, I64});
        for (FunctionCallee &Callee : {std::ref(Slow), std::ref(SlowSpan)})
            cast<Function>(Callee.getCallee())->setCallingConv(CallingConv::PreserveAll);
        Span = Get("still_inproc_range", {I64, I64});
        Lane = Get("__still_lane", {I64, I64, I64});
        bool Fixed = M.getPICLevel() == PICLevel::NotPIC || M.getPIELevel() != PIELevel::Default;
        Tag = M.getNamedGlobal("__still_tag");
        if (!Tag) {
            Tag = new GlobalVariable(M, I8, false, GlobalValue::ExternalLinkage, nullptr,
                                     "__still_tag");
            if (Word)
                Tag->setThreadLocalMode(Fixed ? GlobalVariable::LocalExecTLSModel
                                              : GlobalVariable::InitialExecTLSModel);
            Tag->setDSOLocal(Fixed);
            // Linking with another variant of the runtime fails by the name of what is missing.
            auto *Mark = new GlobalVariable(M, I8, true, GlobalValue::ExternalLinkage, nullptr,
                                            Word ? "__still_word" : "__still_line");
            auto *Keep = new GlobalVariable(M, Mark->getType(), false, GlobalValue::InternalLinkage,
                                            Mark, "__still_variant");
            appendToCompilerUsed(M, {Keep});
        }
    }

    void loadTag(Instruction *Before) {
        IRBuilder<> B(Before);
        auto *Value = B.CreateLoad(I8, Tag);
        llvm::Value *Wide = B.CreateZExt(Value, I64);
        // All bytes alike, to compare several tags at once.
        if (Word) Wide = B.CreateMul(Wide, B.getInt64(0x0101010101010101));
        B.CreateStore(Wide, TagSlot);
    }

    void makeTag() {
        BasicBlock &Entry = F.getEntryBlock();
        TagSlot = new AllocaInst(I64, DL.getAllocaAddrSpace(), "still.tag", &*Entry.begin());
        SmallVector<Instruction *, 16> Places;
        for (BasicBlock &BB : F)
            for (Instruction &I : BB) {
                // Also after calls that change nothing: loading the tag again costs less than a register
                // or a place on the stack that keeps it.
                if (!::barrier(I, TLI, Calm())) continue;
                if (auto *Invoke = dyn_cast<InvokeInst>(&I)) {
                    Places.push_back(&*Invoke->getNormalDest()->getFirstInsertionPt());
                    Places.push_back(&*Invoke->getUnwindDest()->getFirstInsertionPt());
                } else if (auto *Call = dyn_cast<CallInst>(&I)) {
                    if (!Call->isMustTailCall()) Places.push_back(Call->getNextNode());
                } else if (auto *Other = dyn_cast<CallBrInst>(&I)) {
                    for (unsigned N = 0; N < Other->getNumSuccessors(); N++)
                        Places.push_back(&*Other->getSuccessor(N)->getFirstInsertionPt());
                }
            }
        for (Instruction *Place : Places) loadTag(Place);
        loadTag(TagSlot->getNextNode());
        // Behind the other locals, so that they stay at the entry's beginning.
    }

    void finishTag() {
        DominatorTree Now(F);
        SmallVector<Instruction *, 16> Values;
        for (User *U : TagSlot->users())
            if (auto *S = dyn_cast<StoreInst>(U))
                if (auto *V = dyn_cast<Instruction>(S->getValueOperand())) Values.push_back(V);
        PromoteMemToReg({TagSlot}, Now);
        for (Instruction *V : Values) RecursivelyDeleteTriviallyDeadInstructions(V);
    }

    Value *address(IRBuilder<> &B, Value *Pointer, int64_t Offset = 0) {
        Value *At = B.CreatePtrToInt(Pointer, I64);
        return Offset ? B.CreateAdd(At, B.getInt64(Offset)) : At;
    }

    // Whole loops at once.
    void hoist() {
        DenseMap<Loop *, bool> Quiet;
        SCEVExpander Expander(SE, DL, "still");
        for (Access &A : Accesses) {
            if (A.Length || A.Lane) continue;
            Loop *L = LI.getLoopFor(A.At->getParent());
            Loop *Where = nullptr;
            const SCEV *First = nullptr, *Bytes = nullptr;
            const SCEV *At = SE.getSCEV(A.Pointer);
            for (; L; L = L->getParentLoop()) {
                auto Known = Quiet.find(L);
                if (Known == Quiet.end()) {
                    bool None = true;
                    for (BasicBlock *BB : L->blocks())
                        for (Instruction &I : *BB)
                            if (barrier(I)) None = false;
                    Known = Quiet.insert({L, None}).first;
                }
                BasicBlock *Latch = L->getLoopLatch();
                // The exit at the end alone: what dominates it runs in every round.
                if (!Known->second || !Latch || !L->getLoopPreheader() ||
                    L->getExitingBlock() != Latch || !DT.dominates(A.At->getParent(), Latch))
                    break;
                if (Where) {
                    // Already a range: further out if it is the same there.
                    if (!SE.isLoopInvariant(First, L) || !SE.isLoopInvariant(Bytes, L)) {
                        if (!widen(First, Bytes, L)) break;
                    }
                    Where = L;
                    continue;
                }
                if (SE.isLoopInvariant(At, L)) {
                    Where = L;
                    First = SE.getPtrToIntExpr(At, I64);
                    if (isa<SCEVCouldNotCompute>(First)) break;
                    Bytes = SE.getConstant(I64, A.Bytes);
                    continue;
                }
                const SCEV *Int = SE.getPtrToIntExpr(At, I64);
                if (isa<SCEVCouldNotCompute>(Int)) break;
                const SCEV *B = SE.getConstant(I64, A.Bytes);
                if (!widen(Int, B, L)) break;
                Where = L;
                First = Int;
                Bytes = B;
            }
            if (!Where) continue;
            Instruction *Place = Where->getLoopPreheader()->getTerminator();
#if LLVM_VERSION_MAJOR < 15
            if (!isSafeToExpandAt(First, Place, SE) || !isSafeToExpandAt(Bytes, Place, SE)) continue;
#else
            if (!Expander.isSafeToExpandAt(First, Place) || !Expander.isSafeToExpandAt(Bytes, Place))
                continue;
#endif
            Value *From = Expander.expandCodeFor(First, I64, Place);
            Value *N = Expander.expandCodeFor(Bytes, I64, Place);
            A.Done = true;
            if (auto *Known = dyn_cast<ConstantInt>(N))
                if (Known->getZExtValue() <= 8) {
                    Checks.push_back({Place, From, Known->getZExtValue(), false});
                    continue;
                }
            IRBuilder<> Builder(Place);
            Builder.CreateCall(Span, {From, N});
        }
    }

    // The bytes that [First, First + Bytes) covers over all rounds of a loop.
    bool widen(const SCEV *&First, const SCEV *&Bytes, Loop *L) {
        auto *Walk = dyn_cast<SCEVAddRecExpr>(First);
        if (!Walk || Walk->getLoop() != L || !Walk->isAffine() || !SE.isLoopInvariant(Bytes, L))
            return false;
        auto *Step = dyn_cast<SCEVConstant>(Walk->getStepRecurrence(SE));
        const SCEV *Rounds = SE.getBackedgeTakenCount(L);
        if (!Step || isa<SCEVCouldNotCompute>(Rounds) || !SE.isLoopInvariant(Rounds, L)) return false;
        int64_t By = Step->getAPInt().getSExtValue();
        uint64_t Stride = By < 0 ? -uint64_t(By) : uint64_t(By);
        // Sparse walks would log what is never written.
        auto *Known = dyn_cast<SCEVConstant>(Bytes);
        if (!Known) return false;
        uint64_t Each = Known->getAPInt().getZExtValue();
        if (Stride > (Word ? Each + 8 : std::max<uint64_t>(Each + 16, 64))) return false;
        if (SE.getTypeSizeInBits(Rounds->getType()) > 64) return false;
        Rounds = SE.getNoopOrZeroExtend(Rounds, I64);
        const SCEV *Reach = SE.getMulExpr(Rounds, SE.getConstant(I64, Stride));
        First = By < 0 ? SE.getMinusSCEV(Walk->getStart(), Reach) : Walk->getStart();
        Bytes = SE.getAddExpr(Reach, Bytes);
        return true;
    }

    // Neighbours, and what was checked before.
    struct Interval {
        int64_t From, To;
    };
    using Known = DenseMap<Value *, SmallVector<Interval, 2>>;

    void group() {
        DenseMap<Instruction *, SmallVector<Access *, 1>> ByPlace;
        for (Access &A : Accesses)
            if (!A.Done && !A.Length && !A.Lane) ByPlace[A.At].push_back(&A);
        DenseMap<BasicBlock *, Known> After;
        ReversePostOrderTraversal<Function *> Order(&F);
        for (BasicBlock *BB : Order) {
            Known Seen;
            if (BasicBlock *Before = BB->getSinglePredecessor()) {
                auto Found = After.find(Before);
                if (Found != After.end()) Seen = Found->second;
            }
            DenseMap<Value *, SmallVector<std::pair<Access *, Interval>, 4>> Open;
            auto Flush = [&] {
                for (auto &Each : Open) cluster(Each.second);
                Open.clear();
            };
            for (Instruction &I : *BB) {
                auto Found = ByPlace.find(&I);
                if (Found != ByPlace.end())
                    for (Access *A : Found->second) {
                        int64_t Offset = 0;
                        Value *Base = GetPointerBaseWithConstantOffset(A->Pointer, Offset, DL);
                        Interval Span{Offset, Offset + int64_t(A->Bytes)};
                        auto &Have = Seen[Base];
                        A->Done = true;
                        bool Covered = false;
                        for (Interval &H : Have)
                            if (H.From <= Span.From && Span.To <= H.To) Covered = true;
                        if (Covered) continue;
                        Have.push_back(Span);
                        Open[Base].push_back({A, Span});
                    }
                if (barrier(I)) {
                    Flush();
                    Seen.clear();
                }
            }
            Flush();
            After[BB] = std::move(Seen);
        }
    }

    // Accesses to one object within a block, in their order.
    void cluster(SmallVectorImpl<std::pair<Access *, Interval>> &Members) {
        SmallVector<bool, 8> Used(Members.size(), false);
        for (size_t N = 0; N < Members.size(); N++) {
            if (Used[N]) continue;
            Interval All = Members[N].second;
            for (bool Grown = true; Grown;) {
                Grown = false;
                for (size_t K = N + 1; K < Members.size(); K++) {
                    if (Used[K]) continue;
                    Interval Both{std::min(All.From, Members[K].second.From),
                                  std::max(All.To, Members[K].second.To)};
                    // In words every byte between is checked: only what touches.
                    bool Near = Word ? Members[K].second.From <= All.To + 8 &&
                                           All.From <= Members[K].second.To + 8
                                     : true;
                    if (Near && Both.To - Both.From <= 64) {
                        All = Both;
                        Used[K] = Grown = true;
                    }
                }
            }
            Access *A = Members[N].first;
            IRBuilder<> B(A->At);
            Value *At = address(B, A->Pointer, All.From - Members[N].second.From);
            uint64_t Bytes = uint64_t(All.To - All.From);
            // An aligned access of a power of two is in one granule. Alignment is what the types say.
            bool Single = false;
            if (All.From == Members[N].second.From && All.To == Members[N].second.To) {
                uint64_t Align = alignOf(*A);
                Single = Bytes <= Size && isPowerOf2_64(Bytes) && Align >= Bytes;
            }
            Checks.push_back({A->At, At, Bytes, Single || Bytes == 1});
        }
    }

    uint64_t alignOf(Access &A) {
        if (auto *S = dyn_cast<StoreInst>(A.At)) return S->getAlign().value();
        if (isa<AtomicRMWInst>(A.At) || isa<AtomicCmpXchgInst>(A.At)) return A.Bytes;
        return 1;
    }

    void emit(Access &A) {
        IRBuilder<> B(A.At);
        Value *At = address(B, A.Pointer);
        if (A.Lane)
            B.CreateCall(Lane, {At, B.getInt64(A.Bytes), B.CreateZExt(A.Lane, I64)});
        else
            B.CreateCall(Span, {At, A.Length ? B.CreateZExtOrTrunc(A.Length, I64)
                                             : B.getInt64(A.Bytes)});
    }

    void compare(Instruction *Before, Value *At, unsigned Tags, Value *Slowly, uint64_t Bytes) {
        IRBuilder<> B(Before);
        Type *T = IntegerType::get(C, Tags * 8);
        Value *Where = B.CreateAdd(B.CreateLShr(At, Shift), B.getInt64(Shadow));
        auto *Seen = B.CreateAlignedLoad(T, B.CreateIntToPtr(Where, PointerType::get(T, 0)), Align(1));
        Value *Now = B.CreateLoad(I64, TagSlot);
        Value *Differs = B.CreateICmpNE(Seen, B.CreateTruncOrBitCast(Now, T));
        Instruction *Then = SplitBlockAndInsertIfThen(
            Differs, Before, false, MDBuilder(C).createBranchWeights(1, 1000));
        B.SetInsertPoint(Then);
        CallInst *Call = Bytes ? B.CreateCall(SlowSpan, {Slowly, B.getInt64(Bytes)})
                               : B.CreateCall(Slow, {Slowly});
        Call->setCallingConv(CallingConv::PreserveAll);
    }

    void check(Check &K) {
        IRBuilder<> B(K.Before);
        if (K.Single) return compare(K.Before, K.Pointer, 1, K.Pointer, 0);
        if (!Word || K.Bytes <= 8) {
            // At most two granules: the first byte's and the last one's.
            if (K.Bytes > Size) {
                B.CreateCall(Span, {K.Pointer, B.getInt64(K.Bytes)});
                return;
            }
            Value *Last = B.CreateAdd(K.Pointer, B.getInt64(K.Bytes - 1));
            compare(K.Before, K.Pointer, 1, K.Pointer, 0);
            compare(K.Before, Last, 1, Last, 0);
            return;
        }
        if (K.Bytes > 64) {
            B.CreateCall(Span, {K.Pointer, B.getInt64(K.Bytes)});
            return;
        }
        // Words: whole powers of two at once, the last byte by itself.
        uint64_t Done = 0;
        while (K.Bytes - Done >= 8) {
            unsigned Tags = unsigned(std::min<uint64_t>(floorOfPower((K.Bytes - Done) / 8), 8));
            IRBuilder<> Here(K.Before);
            Value *At = Done ? Here.CreateAdd(K.Pointer, Here.getInt64(Done)) : K.Pointer;
            compare(K.Before, At, Tags, At, Tags * 8);
            Done += Tags * 8;
        }
        IRBuilder<> Here(K.Before);
        Value *Last = Here.CreateAdd(K.Pointer, Here.getInt64(K.Bytes - 1));
        compare(K.Before, Last, 1, Last, 0);
    }

    static uint64_t floorOfPower(uint64_t N) {
        uint64_t P = 1;
        while (P * 2 <= N) P *= 2;
        return P;
    }
};

struct Still : PassInfoMixin<Still> {
    PreservedAnalyses run(Module &M, ModuleAnalysisManager &MAM) {
        auto &AM = MAM.getResult<FunctionAnalysisManagerModuleProxy>(M).getManager();
        const Calm Quiet = calmOnes(M, AM);
        bool Changed = false;
        SmallVector<Function *, 64> All;
        for (Function &F : M) All.push_back(&F);
        for (Function *F : All) {
            if (F->isDeclaration() || F->hasFnAttribute(Attribute::Naked) ||
                F->getName().find("__still_") == 0 || F->getName().find("still_inproc_") == 0)
                continue;
            if (!Instrumenter(*F, AM, Quiet).run()) continue;
            AM.invalidate(*F, PreservedAnalyses::none());
            Changed = true;
        }
        return Changed ? PreservedAnalyses::none() : PreservedAnalyses::all();
    }
    static bool isRequired() { return true; }
};

} // namespace

extern "C" LLVM_ATTRIBUTE_WEAK PassPluginLibraryInfo llvmGetPassPluginInfo() {
    return {LLVM_PLUGIN_API_VERSION, "still", "1", [](PassBuilder &PB) {
                PB.registerPipelineParsingCallback(
                    [](StringRef Name, ModulePassManager &PM, ArrayRef<PassBuilder::PipelineElement>) {
                        if (Name != "still") return false;
                        PM.addPass(Still());
                        return true;
                    });
                PB.registerOptimizerLastEPCallback([](ModulePassManager &PM, auto...) {
                    PM.addPass(Still());
                });
            }};
}
